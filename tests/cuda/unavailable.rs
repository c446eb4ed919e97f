//! Refusals: host access to device memory, devices that do not exist, and machines without CUDA.

use std::process::Command;

use dlbridge::{DType, Descriptor, Device, Error, Layout, Stream, Tensor};

use crate::fake_cuda::Session;
use crate::tensors::GPU;

#[test]
fn host_access_to_device_memory_is_refused_with_a_remedy() {
    let session = Session::new();
    let near = Tensor::from_vec(vec![1.0_f32, 2.0], [2]).expect("two").cuda(0).expect("a copy");
    let sentence = |target: &str| {
        format!(
            "can't convert cuda:0 device type tensor to {target}. Use Tensor::cpu() to copy the \
             tensor to host memory first."
        )
    };
    assert_eq!(
        near.to_list().expect_err("not here").to_string(),
        sentence("Vec").replace("Vec", "list")
    );
    assert_eq!(near.to_vec::<f32>().expect_err("not here").to_string(), sentence("Vec"));
    assert_eq!(near.as_slice::<f32>().expect_err("not here").to_string(), sentence("slice"));
    #[cfg(feature = "ndarray")]
    {
        let rejected = near.share().into_ndarray::<f32, ndarray::Ix1>().expect_err("not here");
        assert_eq!(rejected.error().to_string(), sentence("ndarray"));
        let array = rejected
            .into_value()
            .cpu()
            .expect("a copy")
            .into_ndarray::<f32, ndarray::Ix1>()
            .expect("here");
        assert_eq!(array.to_vec(), [1.0, 2.0]);
    }
    let sentence = |device: Device| near.to_device(device).expect_err("there is none").to_string();
    assert_eq!(
        sentence(Device::cuda(2)),
        "cuda:2 is not available on this machine: the driver has cuda:0 to cuda:1"
    );
    assert_eq!(sentence(Device::METAL), "memory on mps:0 is not supported by dlbridge's copies");
    let rocm = Device { device_type: 10, index: 0 };
    assert!(matches!(near.to_device(rocm), Err(Error::UnsupportedDevice { .. })));
    let rejected = near.share().cuda(-1).expect_err("there is none");
    assert_eq!(rejected.into_value().data_ptr(), near.data_ptr());
    let other = Stream::new(Device::cuda(1)).expect("a stream");
    let error = near.to_device_on(Device::CPU, &other).expect_err("a stream of a third device");
    assert!(error.to_string().contains("does not go to or from its device"), "{error}");
    for number in [0, -1, -7] {
        // SAFETY: these numbers name no stream, and are refused.
        let stream = unsafe { Stream::from_raw(GPU, number, ()) };
        assert!(matches!(stream, Err(Error::InvalidDescriptor { .. })));
    }
    assert!(matches!(Stream::new(Device::CPU), Err(Error::UnsupportedDevice { .. })));
    drop((near, other));
    session.check();
}

/// Without a driver, and without devices: in processes of their own.
#[test]
fn machines_without_cuda_are_reported() {
    let run = |name: &str, prepare: fn(&mut Command)| {
        let mut command = Command::new(std::env::current_exe().expect("a path"));
        command.args(["--exact", name, "--ignored", "--nocapture"]);
        prepare(&mut command);
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    };
    run("unavailable::without_a_device", |_| {});
    let mut there = Command::new("ldconfig");
    let there = there
        .arg("-p")
        .output()
        .is_ok_and(|known| String::from_utf8_lossy(&known.stdout).contains("libcuda."));
    if !there {
        run("unavailable::without_a_driver", |command| {
            command.env_remove("LD_LIBRARY_PATH");
        });
    }
}

fn says(reason: &str) {
    let host = Tensor::from_vec(vec![1_u8], [1]).expect("one");
    for device in [GPU, Device::CUDA_HOST] {
        let rejected = host.share().into_device(device).expect_err("there is none");
        assert!(matches!(rejected.error(), Error::CudaUnavailable { .. }), "{}", rejected.error());
        assert!(rejected.error().to_string().contains(reason), "{}", rejected.error());
    }
    assert!(!host.is_pinned());
    assert!(
        Stream::new(GPU).is_err()
            && GPU.check_available().is_err()
            && Device::CUDA_HOST.check_available().is_err()
    );
    let data = std::ptr::without_provenance_mut(4096);
    let descriptor = Descriptor::new(data, Layout::contiguous([2]).expect("valid"), DType::U8, GPU)
        .expect("valid");
    // SAFETY: nothing reads device memory on the host.
    let far = unsafe { Tensor::from_raw_parts(descriptor, true, ()) };
    assert!(matches!(far.deep_clone(), Err(Error::CudaUnavailable { .. })));
    assert!(far.to_list().expect_err("not here").to_string().contains("Use Tensor::cpu()"));
    drop(far.share_dlpack());
    assert!(far.cpu().expect_err("no way").error().to_string().contains(reason));
}

#[test]
#[ignore = "run by machines_without_cuda_are_reported"]
fn without_a_driver() {
    says("there is no driver (libcuda.so.1)");
}

#[test]
#[ignore = "run by machines_without_cuda_are_reported"]
fn without_a_device() {
    Session::remove_devices();
    says("cuInit gave");
}
