//! What compilers call by themselves, and only a libc would have on this target.
//!
//! Rust's targets for kernels and for UEFI bring it along.

#[cfg(not(any(target_os = "none", target_os = "uefi")))]
core::arch::global_asm!(
    ".globl memcpy, memmove, memset, memcmp, bcmp, strlen",
    "memmove:",
    "mov rax, rdi",
    "sub rax, rsi",
    "cmp rax, rdx", // does the end of the source lie in the target?
    "jae memcpy",
    "mov rax, rdi",
    "mov rcx, rdx",
    "lea rdi, [rdi + rdx - 1]",
    "lea rsi, [rsi + rdx - 1]",
    "std",
    "rep movsb",
    "cld",
    "ret",
    "memcpy:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "rep movsb",
    "ret",
    "memset:",
    "mov r8, rdi",
    "mov eax, esi",
    "mov rcx, rdx",
    "rep stosb",
    "mov rax, r8",
    "ret",
    "memcmp:",
    "bcmp:",
    "mov rcx, rdx",
    "xor eax, eax",
    "test rcx, rcx",
    "jz 1f",
    "repe cmpsb",
    "movzx ecx, byte ptr [rdi - 1]",
    "movzx eax, byte ptr [rsi - 1]",
    "sub eax, ecx",
    "neg eax",
    "1:",
    "ret",
    "strlen:",
    "xor eax, eax",
    "2:",
    "cmp byte ptr [rdi + rax], 0",
    "je 3f",
    "inc rax",
    "jmp 2b",
    "3:",
    "ret",
);

/// What core's own code names on this target. Panics do not unwind, so nothing calls it.
#[cfg(not(any(target_os = "none", target_os = "uefi")))]
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
