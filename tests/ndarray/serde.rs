//! Arrays are written and read as ndarray's own.

use dlbridge::{ArrayExt, NdArray};
use half::f16;
use ndarray::{Array2, Ix2, IxDyn, array};
use num_complex::Complex;
use serde_json::{from_str, to_string};

#[test]
fn texts_are_those_of_ndarray() {
    let array = array![[1.5_f32, 2.0, -3.0], [4.0, 5.0, 6.0]].reversed_axes();
    let nd: NdArray<f32, Ix2> = array.clone().into_tensor().into_ndarray().expect("f32");
    let text = to_string(&nd).expect("a text");
    assert_eq!(text, to_string(&array).expect("a text"));
    let read: NdArray<f32, Ix2> = from_str(&text).expect("an array");
    assert_eq!((&read, from_str::<Array2<f32>>(&text).expect("an array")), (&nd, array));
    let mut any: NdArray<f32, IxDyn> = {
        let any = to_string(&nd.into_dyn()).expect("a text");
        from_str(&any).expect("an array")
    };
    any.get_mut().expect("nothing else reaches what was read").fill(0.0);
    assert_eq!(any.into_array().expect("the array that was read").sum(), 0.0);
}

#[test]
fn every_kind_of_element_is_written_and_read() {
    let texts = [
        to_string(&array![true, false].into_tensor().into_ndarray::<bool, IxDyn>().expect("bool")),
        to_string(&array![f16::ONE].into_tensor().into_ndarray::<f16, IxDyn>().expect("f16")),
        to_string(
            &array![Complex::new(1.0_f64, -2.0)]
                .into_tensor()
                .into_ndarray::<Complex<f64>, IxDyn>()
                .expect("complex"),
        ),
    ];
    let texts = texts.map(|text| text.expect("a text"));
    assert_eq!(
        from_str::<NdArray<bool, IxDyn>>(&texts[0])
            .expect("bools")
            .to_list()
            .expect("rank 1")
            .to_string(),
        "[True, False]"
    );
    assert_eq!(
        from_str::<NdArray<f16, IxDyn>>(&texts[1]).expect("f16"),
        array![f16::ONE].into_dyn()
    );
    let complex = from_str::<NdArray<Complex<f64>, IxDyn>>(&texts[2]).expect("complex");
    assert_eq!(complex, array![Complex::new(1.0, -2.0)].into_dyn());
}

#[test]
fn wrong_texts_are_errors() {
    for text in
        ["[1.0, 2.0]", r#"{"v":1,"dim":[2,2],"data":[1.0]}"#, r#"{"v":1,"dim":[1],"data":[1.0]}"#]
    {
        assert!(from_str::<NdArray<f32, Ix2>>(text).is_err(), "{text}");
    }
    assert!(from_str::<NdArray<bool, IxDyn>>(r#"{"v":1,"dim":[1],"data":[2]}"#).is_err());
}
