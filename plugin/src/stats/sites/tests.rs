use super::*;
use crate::x86::PortForm;

fn key(pc: u64, mode: Mode) -> SiteKey {
    SiteKey { pc, mode: Some(mode), bytes: [0xee].into_iter().collect() }
}

#[test]
fn a_site_keeps_its_number() {
    let sites = Sites::default();
    let first = sites.enter(key(0x1000, Mode::Bits32), None, PortForm::OutDxAl);
    let other_mode = sites.enter(key(0x1000, Mode::Bits64), None, PortForm::OutDxAl);
    assert_ne!(first, other_mode);
    assert_eq!(sites.enter(key(0x1000, Mode::Bits32), None, PortForm::OutDxAl), first);
    assert_eq!(sites.get(first.unwrap()).key.pc, 0x1000);
    assert_eq!(sites.address(first.unwrap()), 0x1000);
}

fn named(symbol: &str) -> Option<SiteName> {
    Some(SiteName { symbol: symbol.to_owned(), named_by: "test".to_owned(), source: None })
}

#[test]
fn each_kernel_has_sites_of_its_own() {
    let sites = Sites::default();
    let enter = || sites.enter(key(0x1000, Mode::Bits64), None, PortForm::OutDxAl).unwrap();
    let first = enter();
    sites.keep_names(|site| named(&format!("at {:#x}", site.key.pc)));
    sites.next_boot();
    let second = enter();
    assert_ne!(first, second);
    let now = || named("now");
    assert_eq!(sites.name(first, now), named("at 0x1000"));
    assert_eq!(sites.name(second, now), named("now"));
}

#[test]
fn a_kernel_that_runs_again_has_the_same_sites() {
    let sites = Sites::default();
    let enter = || sites.enter(key(0x1000, Mode::Bits64), None, PortForm::OutDxAl).unwrap();
    let first = enter();
    sites.keep_names(|_| named("a"));
    sites.next_boot();
    let second = enter();
    sites.resume_boot(0);
    assert_eq!(enter(), first);
    assert_eq!(sites.name(first, || named("a")), named("a"));
    assert_eq!(sites.name(first, || None), named("a"), "its module is not there now");
    assert_eq!(sites.name(first, || named("b")), None, "either may have run");
    sites.keep_names(|_| named("b"));
    sites.next_boot();
    assert_eq!(sites.name(first, || None), None);
    assert_ne!(enter(), second);
    assert_ne!(enter(), first);
}

#[test]
fn privilege_is_that_of_the_translations() {
    let sites = Sites::default();
    let enter = |pc| sites.enter(key(pc, Mode::Bits64), None, PortForm::OutDxAl).unwrap();
    let (kernel, user, unknown) = (enter(0x1000), enter(0x2000), enter(0x3000));
    sites.translated_for(kernel, Supervisor::Yes);
    sites.translated_for(user, Supervisor::No);
    assert_eq!(sites.privilege(kernel), Some(Privilege::Supervisor));
    assert_eq!(sites.privilege(user), Some(Privilege::User));
    assert_eq!(sites.privilege(unknown), None);
    let alias = sites.enter_alias(user, 0x5000, None).unwrap();
    assert_eq!(sites.privilege(alias), Some(Privilege::User));
    sites.translated_for(kernel, Supervisor::No);
    assert_eq!(sites.privilege(kernel), Some(Privilege::Both));
}

#[test]
fn an_alias_is_a_site_of_its_own() {
    let sites = Sites::default();
    let first = sites.enter(key(0x1000, Mode::Bits32), None, PortForm::OutDxAl).unwrap();
    let alias = sites.enter_alias(first, 0x8000_1000, None).unwrap();
    assert_ne!(first, alias);
    assert_eq!(sites.address(alias), 0x8000_1000);
    assert_eq!(sites.get(alias).key, key(0x8000_1000, Mode::Bits32));
    assert_eq!(sites.enter(key(0x8000_1000, Mode::Bits32), None, PortForm::OutDxAl), Some(alias));
    assert_eq!(sites.enter_alias(alias, 0x1000, None), Some(first));
}

#[test]
fn sites_beyond_the_limit_are_counted_as_dropped() {
    let sites = Sites::default();
    for pc in 0..MAX_SITES as u64 {
        assert!(sites.enter(key(pc, Mode::Bits16), None, PortForm::OutDxAl).is_some());
    }
    assert_eq!(sites.dropped(), 0);
    assert_eq!(sites.enter(key(u64::MAX, Mode::Bits16), None, PortForm::OutDxAl), None);
    assert_eq!(sites.dropped(), 1);
    assert!(sites.enter(key(7, Mode::Bits16), None, PortForm::OutDxAl).is_some());
}

#[test]
fn code_of_a_file_is_one_site_wherever_it_is_mapped() {
    let sites = Sites::default();
    let file = sites.file("/bin/pie").unwrap();
    assert_eq!((sites.file("/bin/pie"), sites.path(file)), (Some(file), "/bin/pie"));
    let enter = |pc, offset| {
        let place = Some(FilePlace { file, offset });
        sites.enter(key(pc, Mode::Bits64), place, PortForm::OutDxAl).unwrap()
    };
    let first = enter(0x5555_0000_1010, 0x1010);
    for run in 0..2 * MAX_SITES as u64 {
        assert_eq!(enter(0x5555_1000_1010 + (run << 12), 0x1010), first);
    }
    assert_eq!((sites.dropped(), sites.address(first)), (0, 0x5555_0000_1010));
    assert_ne!(enter(0x5555_0000_1011, 0x1011), first);
    assert_ne!(sites.enter(key(0x1010, Mode::Bits64), None, PortForm::OutDxAl), Some(first));
    let place = Some(FilePlace { file, offset: 0x1010 });
    assert_eq!(sites.enter_alias(first, 0x7777_0000_1010, place), Some(first));
}
