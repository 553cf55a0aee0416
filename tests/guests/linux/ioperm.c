/*
 * ioperm: a Linux program that uses ports from user mode.  See ../README.md.
 *
 *      ioperm grant    asks the kernel for the ports first; status 0, or 1 if the latch does not keep
 *                      what it is given, or 2 if the kernel refuses
 *      ioperm          does not ask: its first access ends it, by SIGSEGV
 *
 * It contains its own C library, so it builds without libc.a.
 */

#define FIRST_PORT 0x300
#define PORTS      4

/* The number of calls of each function below in a run that was granted the ports. */
#define BYTES      200
#define STRING     50

#define SYS_EXIT   60
#define SYS_IOPERM 173

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

static long system_call(long number, long a, long b, long c)
{
        long result;
        __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
        return result;
}

/* Each instruction has its own function, whose name is in the statistics. */
#define SITE __attribute__((noinline, used))

SITE void write_byte(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "d"(port)); }

SITE u8 read_byte(u16 port)
{
        u8 value;
        __asm__ volatile("inb %1, %0" : "=a"(value) : "d"(port));
        return value;
}

SITE void write_long(u16 port, u32 value) { __asm__ volatile("outl %0, %1" : : "a"(value), "d"(port)); }

SITE u16 read_word(u16 port)
{
        u16 value;
        __asm__ volatile("inw %1, %0" : "=a"(value) : "d"(port));
        return value;
}

SITE void write_string(u16 port, const u8 *bytes, u64 count)
{
        __asm__ volatile("rep outsb" : "+S"(bytes), "+c"(count) : "d"(port) : "memory");
}

SITE void read_string(u16 port, u8 *bytes, u64 count)
{
        __asm__ volatile("rep insb" : "+D"(bytes), "+c"(count) : "d"(port) : "memory");
}

static int latch_works(void)
{
        u8 bytes[STRING];

        for (int i = 0; i < BYTES; i++) {
                write_byte(FIRST_PORT + i % PORTS, (u8)i);
                if (read_byte(FIRST_PORT + i % PORTS) != (u8)i)
                        return 0;
        }
        write_long(FIRST_PORT, 0x11223344);
        if (read_word(FIRST_PORT + 2) != 0x1122)
                return 0;
        for (int i = 0; i < STRING; i++)
                bytes[i] = (u8)i;
        write_string(FIRST_PORT, bytes, STRING);
        read_string(FIRST_PORT, bytes, STRING);
        for (int i = 0; i < STRING; i++)
                if (bytes[i] != STRING - 1)
                        return 0;
        return 1;
}

/* The stack at the entry (System V ABI for x86-64, 3.4.1): the count of arguments comes first. */
__attribute__((used)) void program(const long *stack)
{
        if (stack[0] > 1 && system_call(SYS_IOPERM, FIRST_PORT, PORTS, 1) != 0)
                system_call(SYS_EXIT, 2, 0, 0);
        system_call(SYS_EXIT, latch_works() ? 0 : 1, 0, 0);
}

__asm__(".globl _start\n"
        "_start: xor %ebp, %ebp\n"
        "        mov %rsp, %rdi\n"
        "        and $-16, %rsp\n"
        "        call program\n");
