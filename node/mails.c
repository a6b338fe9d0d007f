#include "node/mails.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/metrics.h"

void peal_mails_init(struct peal_mails *m, const struct peal_mails_io *io, uint8_t worker_count)
{
    PEAL_ASSERT(worker_count <= PEAL_WORKERS_MAX);
    *m = (struct peal_mails){.io = *io, .worker_count = worker_count, .degraded = true};
}

void peal_mails_fini(struct peal_mails *m)
{
    for (uint8_t w = 0; w < m->worker_count; w++)
        peal_mail_free(m->open[w]);
}

void peal_mails_lose(struct peal_mails *m, uint8_t worker)
{
    uint64_t bit = 1ull << worker;
    if (m->lost & bit) return;
    m->lost |= bit;
    peal_count(PEAL_M_WORKER_LOST, 1);
    peal_log(PEAL_LOG_WARN, "worker.overflow", "worker=%u", worker);
}

void peal_mails_drop(struct peal_mails *m, uint8_t worker)
{
    peal_count(PEAL_M_LETTERS_DROPPED, 1);
    peal_mails_lose(m, worker);
}

void peal_mails_deliver(struct peal_mails *m, uint8_t worker)
{
    uint64_t bit = 1ull << worker;
    struct peal_mail *mail = m->open[worker];
    if (mail == NULL) return;
    m->open[worker] = NULL;
    if (m->io.post(m->io.ctx, worker, mail) == PEAL_OK) {
        m->lost &= ~(m->telling & bit);
    } else {
        peal_count(PEAL_M_LETTERS_DROPPED, mail->count);
        peal_mail_free(mail);
        peal_mails_lose(m, worker);
    }
    m->telling &= ~bit;
}

void peal_mails_flush(struct peal_mails *m)
{
    for (uint8_t w = 0; w < m->worker_count; w++)
        peal_mails_deliver(m, w);
}

static bool add_note(struct peal_mails *m, struct peal_mail *mail, enum peal_letter_kind kind)
{
    struct peal_letter *note = peal_letter_note(kind, m->degraded);
    bool added = note != NULL && peal_mail_add_letter(mail, note) == PEAL_OK;
    peal_letter_unref(note);
    return added;
}

struct peal_mail *peal_mails_open(struct peal_mails *m, uint8_t worker)
{
    uint64_t bit = 1ull << worker;
    PEAL_ASSERT(m->open[worker] == NULL);
    struct peal_mail *mail = peal_mail_new();
    if (mail == NULL) return NULL;
    if (m->lost & bit) {
        if (!add_note(m, mail, PEAL_LETTER_LOST) || !add_note(m, mail, PEAL_LETTER_LINK)) {
            peal_mail_free(mail);
            return NULL;
        }
        m->telling |= bit;
    }
    m->open[worker] = mail;
    return mail;
}

static struct peal_mail *get_open(struct peal_mails *m, uint8_t worker)
{
    return m->open[worker] != NULL ? m->open[worker] : peal_mails_open(m, worker);
}

void peal_mails_add_letter(struct peal_mails *m, uint8_t worker, struct peal_letter *letter)
{
    if (worker >= m->worker_count) return;
    struct peal_mail *mail = get_open(m, worker);
    if (mail == NULL || peal_mail_add_letter(mail, letter) != PEAL_OK)
        peal_mails_drop(m, worker);
    else if (peal_mail_full(mail))
        peal_mails_deliver(m, worker);
}

void peal_mails_add_large(struct peal_mails *m, uint64_t workers, struct peal_span frame)
{
    struct peal_letter *letter;
    if (peal_letter_new(frame, &letter) != PEAL_OK) letter = NULL;
    for (; workers != 0; workers &= workers - 1) {
        uint8_t worker = (uint8_t)__builtin_ctzll(workers);
        if (worker >= m->worker_count) break;
        if (letter != NULL)
            peal_mails_add_letter(m, worker, letter);
        else
            peal_mails_drop(m, worker);
    }
    peal_letter_unref(letter);
}

void peal_mails_add_for_all(struct peal_mails *m, struct peal_span frame)
{
    for (uint8_t w = 0; w < m->worker_count; w++)
        peal_mails_add_frame(m, 1ull << w, frame);
}

void peal_mails_add_answer(struct peal_mails *m, uint64_t req, struct peal_span frame)
{
    uint8_t worker = peal_req_worker(req);
    if (worker < m->worker_count) peal_mails_add_frame(m, 1ull << worker, frame);
}

void peal_mails_add_failed(struct peal_mails *m, uint64_t req, enum peal_err err)
{
    if (req == 0) return;
    struct peal_letter *letter = peal_letter_failed(req, err);
    if (letter != NULL) peal_mails_add_letter(m, peal_req_worker(req), letter);
    peal_letter_unref(letter);
}

void peal_mails_tell_links(struct peal_mails *m, bool degraded)
{
    if (degraded == m->degraded) return;
    m->degraded = degraded;
    struct peal_letter *note = peal_letter_note(PEAL_LETTER_LINK, degraded);
    for (uint8_t w = 0; w < m->worker_count && note != NULL; w++)
        peal_mails_add_letter(m, w, note);
    peal_letter_unref(note);
}

void peal_mails_tell_synced(struct peal_mails *m)
{
    struct peal_letter *note = peal_letter_note(PEAL_LETTER_SYNC, m->degraded);
    for (uint8_t w = 0; w < m->worker_count; w++) {
        if (note != NULL)
            peal_mails_add_letter(m, w, note);
        else
            peal_mails_lose(m, w);
    }
    peal_letter_unref(note);
}

void peal_mails_tell_losses(struct peal_mails *m)
{
    for (uint8_t w = 0; w < m->worker_count; w++)
        if (m->lost & (1ull << w)) get_open(m, w);
}
