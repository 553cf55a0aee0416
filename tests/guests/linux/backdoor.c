/*
 * backdoor: asks VMware's backdoor at port 0x5658 whether this is VMware.  See ../README.md.
 *
 * Status 0 and "VMware, version V" if it is; 1 and "not VMware" if not; 2 if the kernel does not permit the port.
 */

#include "program.h"

#define PORT        0x5658
#define MAGIC       0x564D5868                  /* "VMXh" */
#define GET_VERSION 10
#define UPPER       0x1122334400000000          /* what an `in` of 32 bits clears in RAX and leaves elsewhere */

static int program(void)
{
        unsigned long a = UPPER | MAGIC, b = UPPER, c = GET_VERSION, d = PORT, si = UPPER | 5;
        char text[] = "VMware, version 0\n";

        if (!may_use_ports(PORT, 4))
                return 2;
        __asm__ volatile("inl %%dx, %%eax" : "+a"(a), "+b"(b), "+c"(c), "+d"(d), "+S"(si));
        if (b != MAGIC || d != PORT || si != (UPPER | 5)) {
                print("not VMware\n");
                return 1;
        }
        text[sizeof text - 3] = (char)('0' + a);
        print(text);
        return a < 10 ? 0 : 1;
}
