#include "cli/memory.h"

#ifdef PEAL_MIMALLOC
#include <mimalloc.h>

void peal_memory_start(void)
{
    mi_option_set_enabled_default(mi_option_large_os_pages, true);
}
#else
void peal_memory_start(void)
{
}
#endif
