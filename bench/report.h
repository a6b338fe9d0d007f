/* bench/report.h: what came out of a run, as one JSON object. */
#ifndef PEAL_BENCH_REPORT_H
#define PEAL_BENCH_REPORT_H

#include "bench/run.h"

/* Appends the object; the client processes have ended. */
void peal_report_add(struct peal_buf *out, const struct peal_run *run);

#endif
