//! Rhai without a way out of it: its limits, and the parts of its library that a device may use.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rhai::packages::{
    ArithmeticPackage, BasicArrayPackage, BasicBlobPackage, BasicFnPackage, BasicIteratorPackage,
    BasicMapPackage, BasicMathPackage, BasicStringPackage, BitFieldPackage, LogicPackage,
    MoreStringPackage, Package,
};
use rhai::{Array, Dynamic, Engine, EvalAltResult, Map};

/// The depth of calls of the script's functions.
const CALL_DEPTH: usize = 16;

/// The depth of an expression, outside functions and in one.
const EXPRESSION_DEPTH: (usize, usize) = (64, 32);

/// The number of variables that exist at once in a function.
const VARIABLES: usize = 64;

/// The length of a string in bytes. Rhai measures a result after it was made: that of `replace` has at most
/// the square.
const STRING_BYTES: usize = 4096;

/// The number of elements of an array or bytes of a blob, those of nested ones included.
///
/// Rhai clones and drops nested arrays by recursion. This depth fits a stack of 2 MiB.
const ARRAY_ELEMENTS: usize = 4096;

/// The number of entries of an object map, those of nested ones included.
const MAP_ENTRIES: usize = 256;

/// The time of a call on the host's clock. Few operations can take long, each on large data.
const CALL_TIME: Duration = Duration::from_secs(10);

/// The time is looked at once in so many operations.
const TIMED_OPERATIONS: u64 = 1024;

/// Makes an engine whose calls end after `operations` at the latest.
pub(super) fn sandbox(operations: u64) -> Engine {
    let mut engine = Engine::new_raw();
    // Not the package `LanguageCorePackage`: it has sleep and exit.
    let packages = [
        ArithmeticPackage::new().as_shared_module(),
        BasicStringPackage::new().as_shared_module(),
        BasicIteratorPackage::new().as_shared_module(),
        BasicFnPackage::new().as_shared_module(),
        LogicPackage::new().as_shared_module(),
        BitFieldPackage::new().as_shared_module(),
        BasicMathPackage::new().as_shared_module(),
        BasicArrayPackage::new().as_shared_module(),
        BasicBlobPackage::new().as_shared_module(),
        BasicMapPackage::new().as_shared_module(),
        MoreStringPackage::new().as_shared_module(),
    ];
    for package in packages {
        engine.register_global_module(package);
    }
    // `Fn` and `curry` hide data in function pointers, where Rhai does not measure it.
    for symbol in ["eval", "Fn", "curry"] {
        engine.disable_symbol(symbol);
    }
    engine
        .set_max_operations(operations)
        .set_max_call_levels(CALL_DEPTH)
        .set_max_expr_depths(EXPRESSION_DEPTH.0, EXPRESSION_DEPTH.1)
        .set_max_variables(VARIABLES)
        .set_max_string_size(STRING_BYTES)
        .set_max_array_size(ARRAY_ELEMENTS)
        .set_max_map_size(MAP_ENTRIES)
        .set_fail_on_invalid_map_property(true);
    limit_time(&mut engine);
    forbid_recursion(&mut engine);
    engine
}

/// Ends a call that takes too long although it has executed few operations.
fn limit_time(engine: &mut Engine) {
    let epoch = Instant::now();
    // The nanoseconds from the epoch to the first look at the time in the running call.
    //
    // Relaxed: only the thread that runs the call uses it.
    let began = AtomicU64::new(0);
    engine.on_progress(move |operations| {
        if !operations.is_multiple_of(TIMED_OPERATIONS) {
            return None;
        }
        let now = epoch.elapsed().as_nanos() as u64;
        if operations == TIMED_OPERATIONS {
            began.store(now, Ordering::Relaxed);
        }
        let passed = now.saturating_sub(began.load(Ordering::Relaxed));
        let is_late = passed > CALL_TIME.as_nanos() as u64;
        is_late.then(|| Dynamic::from("the call takes longer than 10 seconds"))
    });
}

/// Replaces the functions that descend into nested arrays and maps with much stack for each level.
fn forbid_recursion(engine: &mut Engine) {
    fn no_comparison<T>(_: &mut T, _: T) -> Result<bool, Box<EvalAltResult>> {
        Err("arrays and maps cannot be compared; compare their elements".into())
    }
    for name in ["to_string", "to_debug", "print", "debug"] {
        engine.register_fn(name, |array: &mut Array| {
            let elements: Vec<String> = array.iter().map(element_text).collect();
            format!("[{}]", elements.join(", "))
        });
        engine.register_fn(name, map_text);
    }
    engine.register_fn("to_json", map_text);
    for operator in ["==", "!="] {
        engine.register_fn(operator, no_comparison::<Array>);
        engine.register_fn(operator, no_comparison::<Map>);
    }
}

fn map_text(map: &mut Map) -> String {
    let entries: Vec<String> =
        map.iter().map(|(key, value)| format!("{key:?}: {}", element_text(value))).collect();
    format!("#{{{}}}", entries.join(", "))
}

/// The text of an element, without what is in it.
fn element_text(element: &Dynamic) -> String {
    if element.is_array() {
        "[...]".to_owned()
    } else if element.is_map() {
        "#{...}".to_owned()
    } else {
        // Rhai's text of the other types does not descend.
        format!("{element:?}")
    }
}
