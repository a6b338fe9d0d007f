#include "bench/figures.h"

#include "proto/json_write.h"

void peal_figure_key(struct peal_buf *out, const char *name)
{
    peal_buf_add_format(out, "%s\"%s\":", out->at[out->size - 1] == '{' ? "" : ",", name);
}

void peal_figure_count(struct peal_buf *out, const char *name, uint64_t number)
{
    peal_figure_key(out, name);
    peal_buf_add_u64(out, number);
}

void peal_figure_real(struct peal_buf *out, const char *name, double number)
{
    peal_figure_key(out, name);
    peal_buf_add_format(out, "%.9g", number);
}

void peal_figure_text(struct peal_buf *out, const char *name, const char *text)
{
    peal_figure_key(out, name);
    peal_json_add_string(out, peal_span_of(text));
}

static void add_quantile(struct peal_buf *out, const char *name, const struct peal_hist *hist,
                         uint32_t permille)
{
    peal_figure_real(out, name, (double)peal_hist_quantile(hist, permille) / 1e3);
}

void peal_figure_latency(struct peal_buf *out, const struct peal_hist *hist)
{
    peal_figure_key(out, "latency_us");
    peal_buf_add_char(out, '{');
    add_quantile(out, "min", hist, 0);
    add_quantile(out, "p50", hist, 500);
    add_quantile(out, "p90", hist, 900);
    add_quantile(out, "p99", hist, 990);
    add_quantile(out, "p999", hist, 999);
    peal_figure_real(out, "max", (double)hist->max / 1e3);
    peal_buf_add_char(out, '}');
}

double peal_figure_ratio(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}
