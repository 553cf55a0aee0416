/*
 * pie: a position-independent program that uses ports from user mode, at another address in each run.  See
 * ../README.md.
 *
 *      pie N           asks the kernel for the ports, and executes each instruction N times
 *      pie             does not ask: its first access ends it, by SIGSEGV
 *
 * Before that it writes a line with the addresses of its three instructions.  It needs no relocation.
 */

#define FIRST_PORT 0x300
#define PORTS      4

#define SYS_WRITE  1
#define SYS_EXIT   60
#define SYS_IOPERM 173

typedef unsigned long u64;

static long system_call(long number, long a, long b, long c)
{
        long result;
        __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
        return result;
}

/* Port in EDI, and a string at RSI. */
__asm__("write_byte: mov %edi, %edx\n"
        "out_site: outb %al, %dx\n"
        "        ret\n"
        "read_byte: mov %edi, %edx\n"
        "in_site: inb %dx, %al\n"
        "        ret\n"
        "write_string: mov %edi, %edx\n"
        "        mov $7, %ecx\n"
        "rep_site: rep outsb\n"
        "        ret\n");
extern __attribute__((visibility("hidden"))) const char out_site[], in_site[], rep_site[];

static void use(const char *bytes)
{
        /* Below the compiler's red zone. */
        __asm__ volatile("sub $128, %%rsp; call write_byte; call read_byte; call write_string; add $128, %%rsp"
                         : "+S"(bytes) : "D"(FIRST_PORT) : "rax", "rdx", "rcx", "memory", "cc");
}

static char *hexadecimal(char *at, u64 number)
{
        for (int shift = 60; shift >= 0; shift -= 4)
                *at++ = "0123456789abcdef"[number >> shift & 15];
        *at++ = ' ';
        return at;
}

__attribute__((used)) void program(const long *stack)
{
        char line[64], *end = line;
        const char *argument = stack[0] > 1 ? (const char *)stack[2] : "";
        long times = 0;

        for (; *argument; argument++)
                times = 10 * times + (*argument - '0');
        end = hexadecimal(end, (u64)out_site);
        end = hexadecimal(end, (u64)in_site);
        end = hexadecimal(end, (u64)rep_site);
        end[-1] = '\n';
        system_call(SYS_WRITE, 1, (long)line, end - line);

        if (times && system_call(SYS_IOPERM, FIRST_PORT, PORTS, 1) != 0)
                system_call(SYS_EXIT, 2, 0, 0);
        do {
                use(line);
        } while (--times > 0);
        system_call(SYS_EXIT, 0, 0, 0);
}

__asm__(".globl _start\n"
        "_start: xor %ebp, %ebp\n"
        "        mov %rsp, %rdi\n"
        "        and $-16, %rsp\n"
        "        call program\n");
