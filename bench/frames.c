#include "bench/frames.h"

/* The head of the frame that bytes begin with. */
struct head {
    uint8_t opcode;
    uint8_t size;
    uint64_t payload_size;
};

static enum peal_frames_got head_read(struct peal_span in, struct head *head)
{
    if (in.size < 2) return PEAL_FRAMES_MORE;
    const unsigned char *at = (const unsigned char *)in.at;
    if ((at[0] & 0x70) != 0 || (at[1] & 0x80) != 0) return PEAL_FRAMES_BAD;
    head->opcode = at[0] & 15;
    uint8_t length = at[1];
    uint8_t more = length == 127 ? 8 : length == 126 ? 2 : 0;
    head->size = (uint8_t)(2 + more);
    if (in.size < head->size) return PEAL_FRAMES_MORE;
    head->payload_size = length;
    if (more > 0) head->payload_size = 0;
    for (int i = 0; i < more; i++)
        head->payload_size = head->payload_size << 8 | at[2 + i];
    return head->payload_size >> 63 != 0 ? PEAL_FRAMES_BAD : PEAL_FRAMES_FRAME;
}

static void in_advance(struct peal_span *in, size_t size)
{
    in->at += size;
    in->size -= size;
}

/* A frame of which some bytes are kept already. */
static enum peal_frames_got kept_next(struct peal_frames *frames, struct peal_span *in,
                                      struct peal_frame *out)
{
    struct head head;
    enum peal_frames_got got;
    while ((got = head_read(peal_buf_span(&frames->kept), &head)) == PEAL_FRAMES_MORE) {
        if (in->size == 0) return PEAL_FRAMES_MORE;
        peal_buf_add(&frames->kept, in->at, 1);
        if (frames->kept.failed) return PEAL_FRAMES_BAD;
        in_advance(in, 1);
    }
    if (got == PEAL_FRAMES_BAD) return PEAL_FRAMES_BAD;

    uint64_t keep = head.payload_size < PEAL_FRAMES_KEEP ? head.payload_size : PEAL_FRAMES_KEEP;
    size_t missing = head.size + (size_t)keep - frames->kept.size;
    if (missing > 0) {
        size_t take = missing < in->size ? missing : in->size;
        peal_buf_add(&frames->kept, in->at, take);
        if (frames->kept.failed) return PEAL_FRAMES_BAD;
        in_advance(in, take);
        if (take < missing) return PEAL_FRAMES_MORE;
        frames->left = head.payload_size - keep;
    }
    size_t skip = frames->left < in->size ? (size_t)frames->left : in->size;
    in_advance(in, skip);
    frames->left -= skip;
    if (frames->left > 0) return PEAL_FRAMES_MORE;
    *out = (struct peal_frame){.opcode = head.opcode,
                               .payload = {frames->kept.at + head.size, (size_t)keep},
                               .size = head.payload_size};
    return PEAL_FRAMES_FRAME;
}

enum peal_frames_got peal_frames_next(struct peal_frames *frames, struct peal_span *in,
                                      struct peal_frame *out)
{
    if (frames->done) peal_frames_fini(frames);
    if (frames->kept.size == 0) {
        struct head head;
        enum peal_frames_got got = head_read(*in, &head);
        if (got == PEAL_FRAMES_BAD) return PEAL_FRAMES_BAD;
        if (got == PEAL_FRAMES_FRAME && head.payload_size <= in->size - head.size) {
            *out = (struct peal_frame){.opcode = head.opcode,
                                       .payload = {in->at + head.size, (size_t)head.payload_size},
                                       .size = head.payload_size};
            in_advance(in, head.size + (size_t)head.payload_size);
            return PEAL_FRAMES_FRAME;
        }
    }
    enum peal_frames_got got = kept_next(frames, in, out);
    frames->done = got == PEAL_FRAMES_FRAME;
    return got;
}

void peal_frames_fini(struct peal_frames *frames)
{
    peal_buf_fini(&frames->kept);
    *frames = (struct peal_frames){0};
}
