/*
 * Runs drive() in a process that may not use ports: each instruction of port I/O raises SIGSEGV, is
 * written down, and skipped. An `in` reads 1, a string is over at once.
 */

#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

int drive(unsigned char *buffer);

static unsigned char buffer[64];

static void on_fault(int signal, siginfo_t *info, void *context)
{
    greg_t *const registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *code = (const unsigned char *)registers[REG_RIP];
    unsigned int bits = 32, port = (unsigned int)registers[REG_RDX] & 0xffff, value;
    int is_rep = 0;

    (void)signal;
    (void)info;
    for (;; code++) {
        if (*code == 0x66)
            bits = 16;
        else if (*code == 0xf3)
            is_rep = 1;
        else
            break;
    }
    if ((*code & 1) == 0)
        bits = 8;
    value = (unsigned int)registers[REG_RAX] & (~0u >> (32 - bits));
    switch (*code & ~1) {
    case 0xe4:
    case 0xec:
        if ((*code & 8) == 0)
            port = *++code;
        printf("in %u %#x\n", bits, port);
        registers[REG_RAX] = 1;
        break;
    case 0xe6:
    case 0xee:
        if ((*code & 8) == 0)
            port = *++code;
        printf("out %u %#x %#x\n", bits, port, value);
        break;
    case 0x6c:
    case 0x6e: {
        const int is_out = *code & 2;
        const greg_t at = registers[is_out ? REG_RSI : REG_RDI] - (greg_t)buffer;
        printf("%s%s %u %#x %lld %lld\n", is_rep ? "rep " : "", is_out ? "outs" : "ins", bits, port, (long long)at,
               (long long)registers[REG_RCX]);
        registers[REG_RCX] = 0;
        break;
    }
    default:
        printf("%#x raised a signal\n", *code);
        fflush(stdout);
        _Exit(1);
    }
    registers[REG_RIP] = (greg_t)(code + 1);
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};

    sigaction(SIGSEGV, &action, NULL);
    printf("%d\n", drive(buffer));
    return 0;
}
