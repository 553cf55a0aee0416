//! The start code: from 32-bit code without paging to 64-bit code with it.

core::arch::global_asm!(
    // The note that QEMU's -kernel looks for: XEN_ELFNOTE_PHYS32_ENTRY.
    r#"
    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18
    .asciz "Xen"
    .quad pvh_start

    .section .text.pvh_start, "ax"
    .globl pvh_start
    .code32
pvh_start:
    cld
    // The first GiB is mapped one to one, by pages of 2 MiB.
    mov edi, offset page_directory
    mov eax, 0x83
    mov ecx, 512
2:  mov [edi], eax
    add edi, 8
    add eax, 0x200000
    loop 2b
    mov eax, offset page_directory + 3
    mov [directory_pointers], eax
    mov eax, offset directory_pointers + 3
    mov [page_map], eax
    mov eax, offset page_map
    mov cr3, eax
    // PAE, and vector registers for the compiler.
    mov eax, cr4
    or eax, 0x620
    mov cr4, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x100
    wrmsr
    mov eax, cr0
    and eax, 0xfffffffb
    or eax, 0x80000002
    mov cr0, eax
    lgdt [descriptor_table_register]
    // ljmp 8:start64
    .byte 0xea
    .long start64
    .word 8

    .code64
start64:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov esp, offset stack_top
    mov edi, ebx
    call kernel_main
3:  hlt
    jmp 3b

    .section .rodata.descriptor_table, "a"
    .balign 8
descriptor_table:
    .quad 0, 0x00af9a000000ffff, 0x00cf92000000ffff
descriptor_table_register:
    .word . - descriptor_table - 1
    .long descriptor_table

    .section .bss.start, "aw", @nobits
    .balign 4096
page_map:           .skip 4096
directory_pointers: .skip 4096
page_directory:     .skip 4096
                    .skip 0x10000
stack_top:
    .text
"#
);
