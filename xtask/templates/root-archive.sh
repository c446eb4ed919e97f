set -e
if command -v rustc >&2; then echo "there is Rust in this root" >&2; exit 1; fi
tar -xzf ./*-linux-*.tar.gz
cd dlbridge-*/
sha256sum --check --quiet SHA256SUMS >&2
example=share/dlbridge-example/transpose.c
cc -std=c99 $example -Iinclude/dlbridge -Llib -ldlbridge -Wl,-rpath,"$PWD/lib" -o shared
cc -std=c99 $example -Iinclude/dlbridge lib/libdlbridge.a \
  -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc -o static
echo "$(ldd --version | sed -n '1s/.* /glibc /p'), $(cc --version | sed -n 1p)"
./shared
./static
