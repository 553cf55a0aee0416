/*
 * task: a position-independent program that prints its identity and its addresses, and uses a port.  See ../README.md.
 *
 *      task N          prints its PID, its name, the addresses of its two instructions and its mappings; then asks the
 *                      kernel for the port and executes each instruction N times
 *
 * It needs no relocation.
 */

#define PORT       0x300

#define SYS_READ   0
#define SYS_WRITE  1
#define SYS_OPEN   2
#define SYS_GETPID 39
#define SYS_EXIT   60
#define SYS_IOPERM 173

typedef unsigned long u64;

static long system_call(long number, long a, long b, long c)
{
        long result;
        __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
        return result;
}

/* Port in EDI. */
__asm__("write_byte: mov %edi, %edx\n"
        "out_site: outb %al, %dx\n"
        "        ret\n"
        "read_byte: mov %edi, %edx\n"
        "in_site: inb %dx, %al\n"
        "        ret\n");
extern __attribute__((visibility("hidden"))) const char out_site[], in_site[];

static void use(void)
{
        /* Below the compiler's red zone. */
        __asm__ volatile("sub $128, %%rsp; call write_byte; call read_byte; add $128, %%rsp"
                         : : "D"(PORT) : "rax", "rdx", "memory", "cc");
}

static void say(const char *text)
{
        long length = 0;
        while (text[length])
                length++;
        system_call(SYS_WRITE, 1, (long)text, length);
}

static void say_number(u64 number, unsigned base)
{
        char text[32], *at = text + sizeof text;

        *--at = 0;
        do
                *--at = "0123456789abcdef"[number % base];
        while (number /= base);
        say(at);
}

static void say_file(const char *path)
{
        char part[512];
        long length, file = system_call(SYS_OPEN, (long)path, 0, 0);

        while ((length = system_call(SYS_READ, file, (long)part, sizeof part)) > 0)
                system_call(SYS_WRITE, 1, (long)part, length);
}

__attribute__((used)) void program(const long *stack)
{
        const char *argument = stack[0] > 1 ? (const char *)stack[2] : "";
        long times = 0;

        for (; *argument; argument++)
                times = 10 * times + (*argument - '0');
        say("task ");
        say_number(system_call(SYS_GETPID, 0, 0, 0), 10);
        say(" ");
        say_number((u64)out_site, 16);
        say(" ");
        say_number((u64)in_site, 16);
        say(" ");
        say_number(times, 10);
        say("\ncomm ");
        say_file("/proc/self/comm");
        say_file("/proc/self/maps");

        if (system_call(SYS_IOPERM, PORT, 1, 1) != 0)
                system_call(SYS_EXIT, 2, 0, 0);
        while (times-- > 0)
                use();
        system_call(SYS_EXIT, 0, 0, 0);
}

__asm__(".globl _start\n"
        "_start: xor %ebp, %ebp\n"
        "        mov %rsp, %rdi\n"
        "        and $-16, %rsp\n"
        "        call program\n");
