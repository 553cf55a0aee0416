//! The kernel's own symbols: those that lead to its other tables, and the names of its code.

use std::ops::Range;

use crate::guest::PhysicalMemory;
use crate::guest::address_space::AddressSpace;
use crate::guest::kallsyms::{Kallsyms, Symbol};
use crate::guest::names::{Budget, Names};
use crate::guest::unwind::orc;

/// Maximum number of variables named `modules` that are tried.
const MODULES: usize = 8;

/// The addresses of symbols that lead to other tables.
#[derive(Default)]
pub(super) struct Marks {
    pub(super) stext: Option<u64>,
    pub(super) etext: Option<u64>,
    pub(super) sinittext: Option<u64>,
    pub(super) einittext: Option<u64>,
    pub(super) banner: Option<u64>,
    pub(super) page_table: Option<u64>,
    pub(super) btf_start: Option<u64>,
    pub(super) btf_stop: Option<u64>,
    pub(super) orc_ips: Option<u64>,
    pub(super) orc_ips_end: Option<u64>,
    pub(super) orc_entries: Option<u64>,
    pub(super) current_task: Option<u64>,
    pub(super) pcpu_hot: Option<u64>,
    pub(super) per_cpu_offset: Option<u64>,
    /// Several files may have a variable of this name.
    pub(super) modules: Vec<u64>,
    /// True if the kernel can load modules.
    pub(super) loads_modules: bool,
}

impl Marks {
    pub(super) fn read<M: PhysicalMemory>(
        space: &AddressSpace<'_, M>,
        kallsyms: &Kallsyms,
    ) -> Option<Marks> {
        let mut marks = Marks::default();
        kallsyms.for_each(
            space,
            |_| true,
            |symbol| {
                marks.note(&symbol);
                Some(())
            },
        )?;
        Some(marks)
    }

    fn note(&mut self, symbol: &Symbol<'_>) {
        let mark = match symbol.name {
            b"_stext" => &mut self.stext,
            b"_etext" => &mut self.etext,
            b"_sinittext" => &mut self.sinittext,
            b"_einittext" => &mut self.einittext,
            b"linux_banner" => &mut self.banner,
            b"init_top_pgt" | b"init_level4_pgt" | b"swapper_pg_dir" => &mut self.page_table,
            b"__start_BTF" => &mut self.btf_start,
            b"__stop_BTF" => &mut self.btf_stop,
            b"__start_orc_unwind_ip" => &mut self.orc_ips,
            b"__stop_orc_unwind_ip" => &mut self.orc_ips_end,
            b"__start_orc_unwind" => &mut self.orc_entries,
            b"current_task" => &mut self.current_task,
            b"pcpu_hot" => &mut self.pcpu_hot,
            b"__per_cpu_offset" => &mut self.per_cpu_offset,
            b"modules" => {
                if self.modules.len() < MODULES {
                    self.modules.push(symbol.address);
                }
                return;
            }
            // Functions, which every table has. Either may be inlined.
            b"__module_address" | b"load_module" => {
                self.loads_modules = true;
                return;
            }
            _ => return,
        };
        *mark = Some(symbol.address);
    }

    pub(super) fn orc(&self) -> Option<orc::Table> {
        let size = self.orc_ips_end?.checked_sub(self.orc_ips?)?;
        orc::Table::new(self.orc_ips?, self.orc_entries?, size / 4)
    }

    /// The ranges of the kernel's code. A symbol's kind is not enough: in 7.3, data has the kind `T`, too.
    pub(super) fn code(&self) -> Vec<Range<u64>> {
        let ends = [(self.stext, self.etext), (self.sinittext, self.einittext)];
        ends.iter().filter_map(|&(start, end)| Some(start?..end?)).collect()
    }
}

/// Reads the names of the kernel's own code.
pub(super) fn read_names<M: PhysicalMemory>(
    space: &AddressSpace<'_, M>,
    kallsyms: &Kallsyms,
    code: &[Range<u64>],
    budget: &mut Budget,
) -> Option<Vec<Names>> {
    let mut names: Vec<Names> = code.iter().map(|code| Names::new(code.clone(), None)).collect();
    let wants = |address| code.iter().any(|code| code.contains(&address));
    kallsyms.for_each(space, wants, |symbol| {
        match names.iter_mut().find(|names| names.has(symbol.address)) {
            Some(names) if symbol.is_text() => names.push(symbol.address, symbol.name, budget),
            _ => Some(()),
        }
    })?;
    Some(names.into_iter().map(Names::finish).collect())
}

/// The release in `Linux version 5.10.0 (…`.
pub(super) fn release<M: PhysicalMemory>(
    space: &AddressSpace<'_, M>,
    banner: u64,
) -> Option<String> {
    let mut text = Vec::new();
    space.cursor(banner).string(&mut text, 1024)?;
    let text = String::from_utf8(text).ok()?;
    let release = text.strip_prefix("Linux version ")?.split(' ').next()?;
    release.bytes().all(|byte| byte.is_ascii_graphic()).then(|| release.to_owned())
}
