/* Uses every function of pvio.h, as C and as C++, and says what the layout of its structures must be. */

#include <pvio.h>

#ifdef __cplusplus
#define NONE nullptr
#else
#define NONE 0
#endif

#define ASSERT(name, condition) typedef char name[(condition) ? 1 : -1]
ASSERT(size_of_a_record, sizeof(struct pvio_record) == 16);
ASSERT(call_in_a_record, offsetof(struct pvio_record, call) == 0);
ASSERT(status_in_a_record, offsetof(struct pvio_record, status) == 1);
ASSERT(port_in_a_record, offsetof(struct pvio_record, port) == 2);
ASSERT(value_in_a_record, offsetof(struct pvio_record, value) == 4);
ASSERT(address_in_a_record, offsetof(struct pvio_record, address) == 8);
ASSERT(size_of_a_compact_record, sizeof(struct pvio_compact_record) == 8);
ASSERT(call_in_a_compact_record, offsetof(struct pvio_compact_record, call) == 0);
ASSERT(reserved_in_a_compact_record, offsetof(struct pvio_compact_record, reserved) == 1);
ASSERT(port_in_a_compact_record, offsetof(struct pvio_compact_record, port) == 2);
ASSERT(value_in_a_compact_record, offsetof(struct pvio_compact_record, value) == 4);
ASSERT(size_of_a_mailbox, sizeof(struct pvio_mailbox) == 64);
ASSERT(word_in_a_mailbox, offsetof(struct pvio_mailbox, word) == 0);
ASSERT(value_in_a_mailbox, offsetof(struct pvio_mailbox, value) == 4);
ASSERT(key_in_a_mailbox, offsetof(struct pvio_mailbox, key) == 8);
ASSERT(address_in_a_mailbox, offsetof(struct pvio_mailbox, address) == 16);
ASSERT(count_in_a_mailbox, offsetof(struct pvio_mailbox, count) == 24);
ASSERT(site_in_a_mailbox, offsetof(struct pvio_mailbox, site) == 32);
ASSERT(reserved_in_a_mailbox, offsetof(struct pvio_mailbox, reserved) == 40);
struct aligned_mailbox { char first; struct pvio_mailbox mailbox; };
ASSERT(alignment_of_a_mailbox, offsetof(struct aligned_mailbox, mailbox) == 64);
struct aligned { char first; struct pvio_record record; };
ASSERT(alignment_of_a_record, offsetof(struct aligned, record) == 16);

ASSERT(size_of_a_file, sizeof(struct pvio_file) == 64);
ASSERT(name_in_a_file, offsetof(struct pvio_file, name) == 0);
ASSERT(name_len_in_a_file, offsetof(struct pvio_file, name_len) == 8);
ASSERT(reserved_in_a_file, offsetof(struct pvio_file, reserved) == 12);
ASSERT(tag_in_a_file, offsetof(struct pvio_file, tag) == 16);
ASSERT(offset_in_a_file, offsetof(struct pvio_file, offset) == 24);
ASSERT(address_in_a_file, offsetof(struct pvio_file, address) == 32);
ASSERT(count_in_a_file, offsetof(struct pvio_file, count) == 40);
ASSERT(reserved_too_in_a_file, offsetof(struct pvio_file, reserved_too) == 48);
struct aligned_file { char first; struct pvio_file file; };
ASSERT(alignment_of_a_file, offsetof(struct aligned_file, file) == 64);

uint32_t scalars(uint16_t port);
uint32_t scalars(uint16_t port)
{
    uint32_t features;
    uint32_t sum = pvio_probe(&features) + pvio_probe(NONE);

    pvio_outb(1, port);
    pvio_outw(2, port);
    pvio_outl(3, port);
    pvio_native_outb(1, 0x80);
    pvio_native_outw(2, 0x80);
    pvio_native_outl(3, 0x80);
    sum += pvio_native_inb(0x80) + pvio_native_inw(port) + pvio_native_inl(port);
    return sum + features + pvio_inb(0x80) + pvio_inw(port) + pvio_inl(port);
}

uint32_t by_mailbox(struct pvio_mailbox *mailbox, uint16_t port);
uint32_t by_mailbox(struct pvio_mailbox *mailbox, uint16_t port)
{
    uint32_t features, sum = pvio_mailbox_register(mailbox, 0x123456789abcdef0, &features);

    sum += pvio_mailbox_register(mailbox, 1, NONE);
    pvio_mailbox_outb(mailbox, 1, port);
    pvio_mailbox_outw(mailbox, 2, port);
    pvio_mailbox_outl(mailbox, 3, port);
    sum += features + pvio_mailbox_inb(mailbox, 0x80) + pvio_mailbox_inw(mailbox, port);
    return sum + pvio_mailbox_inl(mailbox, port) + pvio_mailbox_release(mailbox);
}

void strings_by_mailbox(struct pvio_mailbox *mailbox, uint16_t port, void *buffer, const void *data, size_t count);
void strings_by_mailbox(struct pvio_mailbox *mailbox, uint16_t port, void *buffer, const void *data, size_t count)
{
    pvio_mailbox_insb(mailbox, port, buffer, count);
    pvio_mailbox_insw(mailbox, port, buffer, count);
    pvio_mailbox_insl(mailbox, port, buffer, count);
    pvio_mailbox_outsb(mailbox, port, data, count);
    pvio_mailbox_outsw(mailbox, port, data, count);
    pvio_mailbox_outsl(mailbox, port, data, count);
}

void strings(uint16_t port, void *buffer, const void *data, size_t count);
void strings(uint16_t port, void *buffer, const void *data, size_t count)
{
    pvio_insb(port, buffer, count);
    pvio_insw(port, buffer, count);
    pvio_insl(port, buffer, count);
    pvio_outsb(port, data, count);
    pvio_outsw(port, data, count);
    pvio_outsl(port, data, count);
    pvio_native_insb(port, buffer, count);
    pvio_native_insw(port, buffer, count);
    pvio_native_insl(port, buffer, count);
    pvio_native_outsb(port, data, count);
    pvio_native_outsw(port, data, count);
    pvio_native_outsl(port, data, count);
}

size_t batch(uint16_t port, void *buffer, const void *data);
size_t batch(uint16_t port, void *buffer, const void *data)
{
    struct pvio_record records[12];

    records[0] = pvio_record_inb(port);
    records[1] = pvio_record_inw(port);
    records[2] = pvio_record_inl(port);
    records[3] = pvio_record_outb(1, port);
    records[4] = pvio_record_outw(2, port);
    records[5] = pvio_record_outl(3, port);
    records[6] = pvio_record_insb(port, buffer, 4);
    records[7] = pvio_record_insw(port, buffer, 4);
    records[8] = pvio_record_insl(port, buffer, 4);
    records[9] = pvio_record_outsb(port, data, 4);
    records[10] = pvio_record_outsw(port, data, 4);
    records[11] = pvio_record_outsl(port, data, 4);
    return pvio_batch(records, 12);
}

size_t compact_batch(uint16_t port);
size_t compact_batch(uint16_t port)
{
    struct pvio_compact_record records[6];

    records[0] = pvio_compact_inb(port);
    records[1] = pvio_compact_inw(port);
    records[2] = pvio_compact_inl(port);
    records[3] = pvio_compact_outb(1, port);
    records[4] = pvio_compact_outw(2, port);
    records[5] = pvio_compact_outl(3, port);
    return pvio_batch_compact(records, 6);
}

unsigned int control(const char *text, size_t length);
unsigned int control(const char *text, size_t length)
{
    pvio_word dx = 0, cx = 0;
    uint32_t answer = pvio_call(pvio_call_word(PVIO_CALL_RESET, 0, 0), &dx, &cx);

    return pvio_log(PVIO_LEVEL_ERROR, text, length) + pvio_log_string(PVIO_LEVEL_DEBUG, "text") + pvio_begin("name")
        + pvio_end("name") + pvio_reset() + pvio_dump() + pvio_exit(3) + pvio_status(answer);
}

unsigned int files(const char *name, void *buffer, size_t size);
unsigned int files(const char *name, void *buffer, size_t size)
{
    struct pvio_file file;
    size_t moved;

    pvio_file_open(&file, name);
    return pvio_file_read(&file, buffer, size, &moved) + pvio_file_write(&file, buffer, moved)
        + pvio_file_finish(&file);
}
