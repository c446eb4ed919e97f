//! The model against the storage: the same calls give the same answers.

#![forbid(unsafe_code)]

use std::sync::Arc;

use proptest::prelude::*;

use super::StorageState;
use super::model::{Memory, Model, Real, Rules, Subject};

/// A call on one of the references that there are; the number chooses which.
#[derive(Clone, Copy, Debug)]
enum Call {
    Share(usize),
    Drop(usize),
    IsUnique(usize),
    State(usize),
    SetState(usize, StorageState),
    ShareOut(usize),
    Reclaim(usize),
    IntoOwner(usize),
}

/// What a call answers: yes or no, and the state that the reference shows afterwards.
type Answer = (Option<bool>, Option<(StorageState, bool)>);

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let state = prop_oneof![
        Just(StorageState::Exclusive),
        Just(StorageState::ReadOnly),
        any::<bool>().prop_map(|writable| StorageState::Aliased { writable }),
    ];
    let call = (0..8_u8, 0..4_usize, state).prop_map(|(call, index, state)| match call {
        0 => Call::Share(index),
        1 => Call::Drop(index),
        2 => Call::IsUnique(index),
        3 => Call::State(index),
        4 => Call::SetState(index, state),
        5 => Call::ShareOut(index),
        6 => Call::Reclaim(index),
        _ => Call::IntoOwner(index),
    });
    prop::collection::vec(call, 0..40)
}

fn answer<S: Subject>(references: &mut Vec<S>, call: Call) -> Answer {
    let count = references.len();
    let shown = |reference: &S| Some((reference.state(), reference.is_aliased_for_good()));
    let mut on = |index: usize, call: &dyn Fn(&mut S) -> bool| {
        let reference = &mut references[index % count];
        (Some(call(reference)), shown(reference))
    };
    match call {
        Call::Share(index) => {
            let other = references[index % count].share();
            let shown = shown(&other);
            references.push(other);
            (None, shown)
        }
        Call::Drop(index) => {
            drop(references.swap_remove(index % count));
            (None, None)
        }
        Call::IntoOwner(index) => match references.swap_remove(index % count).into_owner() {
            Ok(owner) => {
                drop(owner);
                (Some(true), None)
            }
            Err(reference) => {
                let shown = shown(&reference);
                references.push(reference);
                (Some(false), shown)
            }
        },
        Call::IsUnique(index) => on(index, &|reference| reference.is_unique()),
        Call::State(index) => on(index, &|_| true),
        Call::SetState(index, state) => on(index, &|reference| reference.set_state(state)),
        Call::ShareOut(index) => on(index, &|reference| reference.share_out()),
        Call::Reclaim(index) => on(index, &|reference| reference.reclaim()),
    }
}

proptest! {
    #[test]
    fn the_model_answers_as_the_storage(calls in calls()) {
        let memory = || Arc::new(Memory::default());
        let (of_real, of_model) = (memory(), memory());
        let mut real = vec![Real::new(Arc::clone(&of_real))];
        let mut model = vec![Model::new(Rules::REAL, Arc::clone(&of_model))];
        for call in calls {
            if real.is_empty() {
                break;
            }
            prop_assert_eq!(answer(&mut real, call), answer(&mut model, call), "{:?}", call);
            prop_assert_eq!(of_real.drops(), of_model.drops(), "{:?}", call);
            prop_assert_eq!(of_real.drops() == 1, real.is_empty());
            prop_assert!(real.iter().all(|real| std::ptr::eq(real.memory(), &*of_real)));
            prop_assert!(model.iter().all(|model| std::ptr::eq(model.memory(), &*of_model)));
        }
        drop((real, model));
        prop_assert_eq!((of_real.drops(), of_model.drops()), (1, 1));
    }
}
