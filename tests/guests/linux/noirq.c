/*
 * noirq: takes the interrupt from a serial port, so that Linux polls it.  See ../README.md.
 *
 *      noirq DEVICE    status 0, or 1 if the kernel refuses
 */

#define SYS_OPEN  2
#define SYS_IOCTL 16
#define SYS_EXIT  60

#define O_RDWR      2
#define O_NONBLOCK  04000
#define TIOCGSERIAL 0x541e
#define TIOCSSERIAL 0x541f

static long system_call(long number, long a, long b, long c)
{
        long result;
        __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
        return result;
}

/* The first fields of struct serial_struct in linux/serial.h, and room for the rest. */
struct serial {
        int type, line;
        unsigned port;
        int irq;
        char rest[112];
};

__attribute__((used)) void program(const long *stack)
{
        struct serial serial = { 0 };
        long status = 1;
        long file = stack[0] > 1 ? system_call(SYS_OPEN, stack[2], O_RDWR | O_NONBLOCK, 0) : -1;

        if (file >= 0 && system_call(SYS_IOCTL, file, TIOCGSERIAL, (long)&serial) == 0) {
                serial.irq = 0;
                status = system_call(SYS_IOCTL, file, TIOCSSERIAL, (long)&serial) != 0;
        }
        system_call(SYS_EXIT, status, 0, 0);
        __builtin_unreachable();
}

__asm__(".globl _start\n"
        "_start: xor %ebp, %ebp\n"
        "        mov %rsp, %rdi\n"
        "        and $-16, %rsp\n"
        "        call program\n");
