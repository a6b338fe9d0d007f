/* node/demo_page.h: clients/demo/index.html, linked into the program (node/demo_page.S).
 *
 * One file holds everything, so that `peal dev` needs no folder of pages beside it. */
#ifndef PEAL_NODE_DEMO_PAGE_H
#define PEAL_NODE_DEMO_PAGE_H

#include <stddef.h>

extern const char peal_demo_page[];
extern const size_t peal_demo_page_size;

#endif
