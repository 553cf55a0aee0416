/*
 * Port I/O by hypercalls in place of the instructions, as the library IoLibTdx of EDK II has it: the functions of
 * the base library ask what the guest is, and call the hypervisor if it is a TD. Strings are loops of single calls.
 */
#include "guest.h"

/* TdIsEnabled(): what CPUID told at the start. */
static volatile u32 is_td __attribute__((section(".guest_constants"))) = 1;

static inline u8 inb(u16 port)
{
    u8 value;
    __asm__ volatile("in %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static inline u16 inw(u16 port)
{
    u16 value;
    __asm__ volatile("in %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static inline u32 inl(u16 port)
{
    u32 value;
    __asm__ volatile("in %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static inline void outb(u16 port, u8 value) { __asm__ volatile("out %0, %1" ::"a"(value), "Nd"(port)); }
static inline void outw(u16 port, u16 value) { __asm__ volatile("out %0, %1" ::"a"(value), "Nd"(port)); }
static inline void outl(u16 port, u32 value) { __asm__ volatile("out %0, %1" ::"a"(value), "Nd"(port)); }

/* A guest whose hypervisor refuses an access cannot go on; EDK II halts it. */
static _Noreturn void refused(void)
{
    for (;;)
        __asm__ volatile("mov $0xdeadca11, %%ebp; int %0" ::"i"(VECTOR_DONE));
}

u32 io_hypercall(u32 direction, u32 port, u32 size, u32 value)
{
    u32 status = IO_FUNCTION;

    __asm__ volatile("int %[vector]"
                     : "+a"(value), "+b"(status)
                     : "c"(size), "d"(port), "S"(direction), [vector] "i"(VECTOR_IO_CALL)
                     : "memory");
    if (status != 0)
        refused();
    return value;
}

#define FUNCTIONS(bits, type, letter)                                                              \
    u32 io_read_##bits(u32 port);                                                                  \
    u32 io_read_##bits(u32 port)                                                                   \
    {                                                                                              \
        if (is_td)                                                                                 \
            return io_hypercall(IO_READ, port, bits / 8, 0);                                       \
        return in##letter(port);                                                                   \
    }                                                                                              \
    void io_write_##bits(u32 port, u32 value);                                                     \
    void io_write_##bits(u32 port, u32 value)                                                      \
    {                                                                                              \
        if (is_td)                                                                                 \
            io_hypercall(IO_WRITE, port, bits / 8, (type)value);                                   \
        else                                                                                       \
            out##letter(port, value);                                                              \
    }                                                                                              \
    void io_read_fifo_##bits(u32 port, u32 count, type *buffer);                                   \
    void io_read_fifo_##bits(u32 port, u32 count, type *buffer)                                    \
    {                                                                                              \
        if (is_td)                                                                                 \
            while (count--)                                                                        \
                *buffer++ = io_hypercall(IO_READ, port, bits / 8, 0);                              \
        else                                                                                       \
            __asm__ volatile("rep ins" #letter : "+D"(buffer), "+c"(count) : "d"(port) : "memory"); \
    }                                                                                              \
    void io_write_fifo_##bits(u32 port, u32 count, const type *buffer);                            \
    void io_write_fifo_##bits(u32 port, u32 count, const type *buffer)                             \
    {                                                                                              \
        if (is_td)                                                                                 \
            while (count--)                                                                        \
                io_hypercall(IO_WRITE, port, bits / 8, *buffer++);                                 \
        else                                                                                       \
            __asm__ volatile("rep outs" #letter : "+S"(buffer), "+c"(count) : "d"(port) : "memory"); \
    }

FUNCTIONS(8, u8, b)
FUNCTIONS(16, u16, w)
FUNCTIONS(32, u32, l)
