/*
 * What a processor, or the TDX module, does between a forbidden instruction and the guest's own handler. Here it
 * is code, because an emulator's processor has neither TDX nor SEV-ES; none of it is counted as software.
 *
 * An intercepted instruction becomes a #VE (Intel's "TDX Module Base Architecture Specification", 10.3) or a #VC
 * (APM Vol. 2, 15.35.5). The processor has decoded it; #VE's handler can ask for the result.
 */
#include "harness.h"
#include "protocol.h"

/* The decoder again, in this part. */
#define decode decode_in_processor
#include "decode.c"
#undef decode

static struct {
    u32 valid, qualification, length;
} ve_info;

static int is_io(const struct frame *frame, struct io *io)
{
    const u8 *code = (const u8 *)frame->eip;
    return frame->error == 0 && frame->eip < MONITOR_BASE && decode_in_processor(code, LONGEST, io) > 0;
}

static u32 qualification(const struct frame *frame, const struct io *io)
{
    u32 of_size = io->operation % 3, in = io->operation < OP_OUT || (io->operation >= OP_INS && io->operation < OP_OUTS);
    u32 port = io->immediate ? io->port : frame->edx & 0xffff;
    u32 what = (1 << of_size) - 1;

    if (in)
        what |= QUALIFICATION_IN;
    if (io->operation >= OP_INS)
        what |= QUALIFICATION_STRING;
    if (io->operation >= OP_INS && io->repeat)
        what |= QUALIFICATION_REPEAT;
    if (io->immediate)
        what |= QUALIFICATION_IMMEDIATE;
    return what | port << QUALIFICATION_PORT;
}

/* #GP of a guest for TDX. */
void virtualization_exception(struct frame *frame)
{
    struct io io;

    if (!is_io(frame, &io)) {
        reflect(frame, VECTOR_GP, 1, frame->error);
        return;
    }
    if (ve_info.valid)
        failed("a #VE while the information of another was not read: this is a #DF");
    ve_info.valid = 1;
    ve_info.qualification = qualification(frame, &io);
    ve_info.length = io.length;
    reflect(frame, VECTOR_VE, 0, 0);
}

/* TDG.VP.VEINFO.GET. The exit reason 0 says that there is none. */
void get_ve_info(struct frame *frame)
{
    frame->eax = ve_info.valid ? IO_FUNCTION : 0;
    frame->edx = ve_info.qualification;
    frame->ecx = ve_info.length;
    ve_info.valid = 0;
}

/* #GP of a guest for SEV-ES. */
void communication_exception(struct frame *frame)
{
    struct io io;

    if (is_io(frame, &io))
        reflect(frame, VECTOR_VC, 1, EXIT_CODE_IO);
    else
        reflect(frame, VECTOR_GP, 1, frame->error);
}
