//! The accesses that page-table entries and protection keys permit.

use super::*;

/// Every combination of what decides, against the rules of the manual.
#[test]
fn an_access_is_permitted_exactly_as_the_manual_says() {
    let bits = [PRESENT, WRITABLE, USER, ACCESSED, DIRTY];
    let each = |pick: u32| -> u64 {
        bits.iter().enumerate().filter(|(n, _)| pick >> n & 1 != 0).map(|(_, bit)| bit).sum()
    };
    for case in 0..1u32 << 17 {
        let (leaf, above) = (each(case & 31), each(case >> 5 & 31));
        let flag = |bit: u32| case >> (10 + bit) & 1 != 0;
        let (wp, smap, ac, pke, pks) = (flag(0), flag(1), flag(2), flag(3), flag(4));
        let supervisor = if flag(5) { Supervisor::Yes } else { Supervisor::No };
        let access = if flag(6) { Access::Write } else { Access::Read };
        let mut paging = paging(PAE, LONG, supervisor);
        paging.cr0.set(Cr0::WRITE_PROTECT, wp);
        paging.cr4.set(Cr4::SMAP, smap);
        paging.cr4.set(Cr4::PROTECTION_KEYS_USER, pke);
        paging.cr4.set(Cr4::PROTECTION_KEYS_SUPERVISOR, pks);
        paging.rflags.set(Rflags::ALIGNMENT_CHECK, ac);
        let (tables, linear) = four_levels(0x9000 | leaf, above);

        let both = leaf & above;
        let is_user_page = both & USER != 0;
        let is_there = both & PRESENT != 0 && both & ACCESSED != 0;
        let is_written = access == Access::Write;
        let may = match (supervisor, is_user_page) {
            (Supervisor::No, false) => false,
            (Supervisor::No, true) => !is_written || both & WRITABLE != 0,
            (Supervisor::Yes, true) if smap && !ac => false,
            (Supervisor::Yes, _) => !is_written || both & WRITABLE != 0 || !wp,
        };
        let has_key = if is_user_page { pke } else { pks };
        let is_dirty = !is_written || leaf & DIRTY != 0;
        let expected = match is_there && may && !has_key && is_dirty {
            true => Ok(0x9000),
            false => Err(NeedsFault),
        };
        assert_eq!(paging.translate(linear, access, &tables), expected, "case {case:#x}");
    }
}

/// Every key with all that decides, against the rules of the manual.
#[test]
fn protection_keys_permit_exactly_what_the_manual_says() {
    for case in 0..1u32 << 12 {
        let flag = |bit: u32| case >> bit & 1 != 0;
        let (key, rights) = (case & 15, case >> 4 & 3);
        let (user_page, writes, wp, on) = (flag(6), flag(7), flag(8), flag(9));
        // User code may not access a supervisor page, whatever its key.
        let supervisor = if flag(10) || !user_page { Supervisor::Yes } else { Supervisor::No };
        let known = flag(11);
        // All other keys have the opposite rights.
        let register = if rights == 0 { !0 } else { 0 };
        let register = known.then_some(register & !(3 << (2 * key)) | rights << (2 * key));
        let nothing = Some(0);
        let mut paging = paging(PAE, LONG, supervisor);
        paging.cr0.set(Cr0::WRITE_PROTECT, wp);
        let (enable, keys) = match user_page {
            true => (Cr4::PROTECTION_KEYS_USER, KeyRights { user: register, supervisor: nothing }),
            false => {
                (Cr4::PROTECTION_KEYS_SUPERVISOR, KeyRights { user: nothing, supervisor: register })
            }
        };
        paging.cr4.set(enable, on);
        paging.keys = keys;
        let rest = if user_page { ALL } else { ALL & !USER };
        let (tables, linear) = four_levels(0x9000 | rest | u64::from(key) << 59, ALL);
        let access = if writes { Access::Write } else { Access::Read };
        let permitted = match rights {
            _ if !on => true,
            _ if !known => false,
            0 => true,
            // Write disable: always for users, for supervisors with CR0.WP.
            2 => !writes || supervisor == Supervisor::Yes && !wp,
            _ => false,
        };
        let expected = if permitted { Ok(0x9000) } else { Err(NeedsFault) };
        assert_eq!(paging.translate(linear, access, &tables), expected, "case {case:#x}");
    }
}
