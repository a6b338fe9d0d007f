/* bench/figures.h: one JSON object, key by key, as the load generators print it. */
#ifndef PEAL_BENCH_FIGURES_H
#define PEAL_BENCH_FIGURES_H

#include "base/buf.h"
#include "bench/hist.h"

/* Appends `"name":`, behind a comma unless an object just began. */
void peal_figure_key(struct peal_buf *out, const char *name);
void peal_figure_count(struct peal_buf *out, const char *name, uint64_t number);
void peal_figure_real(struct peal_buf *out, const char *name, double number);
void peal_figure_text(struct peal_buf *out, const char *name, const char *text);
/* `"latency_us":{...}` of a histogram of ns. */
void peal_figure_latency(struct peal_buf *out, const struct peal_hist *hist);
/* 0 when there is nothing to divide by. */
double peal_figure_ratio(double part, double whole);

#endif
