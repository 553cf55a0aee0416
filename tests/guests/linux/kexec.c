/*
 * kexec: a Linux program that starts another kernel without a reset.  See ../README.md.
 *
 *      kexec KERNEL INITRAMFS COMMAND-LINE   returns only if that fails: status 1 if a file cannot be opened, 2 if the
 *                                            kernel rejects them, 3 if it does not start the other
 *
 * It contains its own C library, so it builds without libc.a.
 */

#define SYS_OPEN            2
#define SYS_EXIT            60
#define SYS_REBOOT          169
#define SYS_KEXEC_FILE_LOAD 320

#define REBOOT_MAGIC        0xfee1deadL
#define REBOOT_MAGIC2       672274793L
#define REBOOT_KEXEC        0x45584543L

static long system_call(long number, long a, long b, long c, long d, long e)
{
        register long r10 __asm__("r10") = d;
        register long r8 __asm__("r8") = e;
        long result;
        __asm__ volatile("syscall"
                         : "=a"(result)
                         : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                         : "rcx", "r11", "memory");
        return result;
}

static _Noreturn void end(long status)
{
        for (;;)
                system_call(SYS_EXIT, status, 0, 0, 0, 0);
}

static long open_file(const char *path)
{
        long file = system_call(SYS_OPEN, (long)path, 0, 0, 0, 0);
        if (file < 0)
                end(1);
        return file;
}

__attribute__((used)) _Noreturn void run(long argc, char **argv)
{
        long kernel, initramfs, length = 1;
        if (argc != 4)
                end(1);
        kernel = open_file(argv[1]);
        initramfs = open_file(argv[2]);
        while (argv[3][length - 1])
                length++;
        if (system_call(SYS_KEXEC_FILE_LOAD, kernel, initramfs, length, (long)argv[3], 0) < 0)
                end(2);
        system_call(SYS_REBOOT, REBOOT_MAGIC, REBOOT_MAGIC2, REBOOT_KEXEC, 0, 0);
        end(3);
}

/* The kernel leaves argc where RSP points, and the arguments after it. */
__asm__(".globl _start\n"
        "_start:\n"
        "        mov (%rsp), %rdi\n"
        "        lea 8(%rsp), %rsi\n"
        "        and $-16, %rsp\n"
        "        call run\n");
