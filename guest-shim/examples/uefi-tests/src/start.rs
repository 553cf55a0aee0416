//! The start code on a target that does not know UEFI: relocates the image, which is linked at 0.

#[cfg(not(target_os = "uefi"))]
core::arch::global_asm!(
    r#"
    .section .text.efi_start, "ax"
    .globl efi_start
    .hidden relocations_start, relocations_end, text_start
efi_start:
    lea rax, [rip + text_start]
    sub rax, 0x1000
    lea r8, [rip + relocations_start]
    lea r9, [rip + relocations_end]
2:  cmp r8, r9
    jae efi_main
    // R_X86_64_RELATIVE: the place, the type, the address.
    cmp dword ptr [r8 + 8], 8
    jne 3f
    mov r10, [r8]
    mov r11, [r8 + 16]
    add r11, rax
    mov [rax + r10], r11
3:  add r8, 24
    jmp 2b
    .text
"#
);
