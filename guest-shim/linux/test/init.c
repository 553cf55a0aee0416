// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * The only program of a test guest. It needs no C library. Arguments, from the kernel's command line after "--":
 *
 *   read   reads /dev/sda to its end and prints a checksum
 *   write  fills /dev/sda with numbers that the host knows, too
 *   port   reads the month from the clock's ports by /dev/port, and by instructions after ioperm()
 *   latch  a process for each of four latches, at ports 0x5000 to 0x5003, writes it and reads it back by /dev/port, while
 *          CPUs 1 to 3 go off line and come back
 *   sleep  suspends to RAM for two seconds, and uses the ports again
 *
 * Then it powers off.
 */

#ifdef __x86_64__
enum {
	READ = 0,
	WRITE = 1,
	OPEN = 2,
	CLOSE = 3,
	LSEEK = 8,
	FSYNC = 74,
	MKDIR = 83,
	MOUNT = 165,
	REBOOT = 169,
	IOPERM = 173,
	SLEEP = 230,
	PREAD = 17,
	PWRITE = 18,
	FORK = 57,
	EXIT = 60,
	WAIT = 61,
};

__asm__(".globl _start\n_start: mov %rsp, %rdi\nand $-16, %rsp\ncall begin\n");

static long call(long number, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;

	__asm__ __volatile__("syscall" : "+a"(number) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
	return number;
}
#else
enum {
	READ = 3,
	WRITE = 4,
	OPEN = 5,
	CLOSE = 6,
	LSEEK = 19,
	MOUNT = 21,
	MKDIR = 39,
	REBOOT = 88,
	IOPERM = 101,
	FSYNC = 118,
	SLEEP = 407,
	PREAD = 180,
	PWRITE = 181,
	FORK = 2,
	EXIT = 1,
	WAIT = 114,
};

__asm__(".globl _start\n_start: mov %esp, %eax\nand $-16, %esp\nsub $12, %esp\npush %eax\ncall begin\n");

static long call(long number, long a, long b, long c, long d, long e)
{
	__asm__ __volatile__("int $0x80" : "+a"(number) : "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
	return number;
}
#endif

static int console = -1;
static unsigned int words[1 << 16];

static long length(const char *text)
{
	long count = 0;

	while (((const volatile char *)text)[count])
		count++;
	return count;
}

static void print(const char *text)
{
	call(WRITE, console, (long)text, length(text), 0, 0);
}

static void print_number(unsigned int number)
{
	char text[10] = "00000000\n";
	int digit;

	for (digit = 7; digit >= 0; digit--, number >>= 4)
		text[digit] = "0123456789abcdef"[number & 15];
	print(text);
}

/* Prints a mark, and lets the host measure what has been used until then. */
static void mark(const char *text)
{
	const long long time[2] = { 0, 100000000 };

	print(text);
	call(SLEEP, 1, 0, (long)time, 0, 0);
}

static _Noreturn void end(void)
{
	call(REBOOT, 0xfee1dead, 0x28121969, 0x4321fedc, 0, 0);
	for (;;)
		;
}

static void fail(const char *text)
{
	print("pvio: failed: ");
	print(text);
	print("\n");
	end();
}

static long disk(void)
{
	long file = call(OPEN, (long)"/dev/sda", 2, 0, 0, 0);

	if (file < 0)
		fail("there is no /dev/sda");
	return file;
}

static void read_disk(void)
{
	long file = disk(), bytes, word;
	unsigned int sum = 0;

	mark("pvio: read begins\n");
	while ((bytes = call(READ, file, (long)words, sizeof(words), 0, 0)) > 0)
		for (word = 0; word < bytes / 4; word++)
			sum = (sum << 5 | sum >> 27) + words[word];
	if (bytes < 0)
		fail("the disk cannot be read");
	mark("pvio: read ends\n");
	print("pvio: checksum: ");
	print_number(sum);
	call(CLOSE, file, 0, 0, 0, 0);
}

static void write_disk(void)
{
	long file = disk(), bytes, done, word;
	unsigned int number = 2463534242u;

	mark("pvio: write begins\n");
	do {
		for (word = 0; word < (long)(sizeof(words) / 4); word++) {
			number ^= number << 13;
			number ^= number >> 17;
			number ^= number << 5;
			words[word] = number;
		}
		for (done = 0; done < (long)sizeof(words); done += bytes) {
			bytes = call(WRITE, file, (long)words + done, sizeof(words) - done, 0, 0);
			if (bytes <= 0)
				break;
		}
	} while (done == (long)sizeof(words));
	if (call(FSYNC, file, 0, 0, 0, 0) < 0)
		fail("the disk cannot be written");
	mark("pvio: write ends\n");
	call(CLOSE, file, 0, 0, 0, 0);
}

static unsigned char month_by_instructions(void)
{
	unsigned char month;

	if (call(IOPERM, 0x70, 2, 1, 0, 0) < 0)
		fail("ioperm");
	__asm__ __volatile__("outb %b1, $0x70; inb $0x71, %0" : "=a"(month) : "0"(8));
	return month;
}

static unsigned char month_by_file(void)
{
	unsigned char month = 8;
	long file = call(OPEN, (long)"/dev/port", 2, 0, 0, 0);

	if (file < 0 || call(LSEEK, file, 0x70, 0, 0, 0) != 0x70 || call(WRITE, file, (long)&month, 1, 0, 0) != 1 ||
	    call(READ, file, (long)&month, 1, 0, 0) != 1)
		fail("/dev/port");
	return month;
}

static void use_ports(void)
{
	print("pvio: month by file: ");
	print_number(month_by_file());
	print("pvio: month by instructions: ");
	print_number(month_by_instructions());
}

/* Writes a text to a file. Returns whether that worked. */
static int set(const char *path, const char *text)
{
	long file = call(OPEN, (long)path, 1, 0, 0, 0);
	int is_done = file >= 0 && call(WRITE, file, (long)text, length(text), 0, 0) == length(text);

	if (file >= 0)
		call(CLOSE, file, 0, 0, 0, 0);
	return is_done;
}

enum { LATCH = 0x5000, LATCHES = 4, PAIRS = 250000 };

/* A process of its own: ends with 0 if the latch at a port always has what was written. */
static _Noreturn void use_latch(int port)
{
	long file = call(OPEN, (long)"/dev/port", 2, 0, 0, 0), pair;

	for (pair = 0; pair < PAIRS; pair++) {
		unsigned char written = (unsigned char)(pair * 7 + port), found = 0;

		if (call(PWRITE, file, (long)&written, 1, port, 0) != 1 ||
		    call(PREAD, file, (long)&found, 1, port, 0) != 1 || found != written)
			call(EXIT, 1, 0, 0, 0, 0);
	}
	call(EXIT, 0, 0, 0, 0, 0);
	for (;;)
		;
}

static void use_latches(void)
{
	static char online[] = "/sys/devices/system/cpu/cpu1/online";
	char *const number = &online[27];
	int left = LATCHES, latch, status;
	unsigned int changes = 0;

	for (latch = 0; latch < LATCHES; latch++)
		if (!call(FORK, 0, 0, 0, 0, 0))
			use_latch(LATCH + latch);
	while (left) {
		for (*number = '1'; *number <= '3'; ++*number) {
			if (!set(online, "0") || !set(online, "1"))
				fail("a CPU cannot be changed");
			changes += 2;
		}
		while (left && call(WAIT, -1, (long)&status, 1, 0, 0) > 0) {
			if (status)
				fail("a latch had another value");
			left--;
		}
	}
	print("pvio: latches are right; changes of CPUs: ");
	print_number(changes);
}

static void suspend(void)
{
	if (!set("/sys/class/rtc/rtc0/wakealarm", "+2") || !set("/sys/power/state", "mem"))
		fail("the machine cannot be suspended");
	print("pvio: awake\n");
	print("pvio: month by file: ");
	print_number(month_by_file());
}

__attribute__((used)) static void begin(long *stack)
{
	char **arguments = (char **)(stack + 1);
	long count = *stack, argument;

	call(MKDIR, (long)"/dev", 0755, 0, 0, 0);
	call(MOUNT, (long)"dev", (long)"/dev", (long)"devtmpfs", 0, 0);
	call(MKDIR, (long)"/sys", 0755, 0, 0, 0);
	call(MOUNT, (long)"sys", (long)"/sys", (long)"sysfs", 0, 0);
	console = call(OPEN, (long)"/dev/ttyS0", 1, 0, 0, 0);
	mark("pvio: user space reached\n");
	for (argument = 1; argument < count; argument++) {
		switch (arguments[argument][0]) {
		case 'r':
			read_disk();
			break;
		case 'w':
			write_disk();
			break;
		case 'p':
			use_ports();
			break;
		case 'l':
			use_latches();
			break;
		case 's':
			suspend();
			break;
		}
	}
	end();
}
