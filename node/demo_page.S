/* The bytes of the demo page (node/demo_page.h). An assembler takes a file as it is; the build
 * gives it the project's root as include path. */
#ifdef __CET__
#include <cet.h> /* says that this file does not stand in the way of control-flow checks */
#endif

    .section .rodata
    .balign 8
    .globl peal_demo_page
    .type peal_demo_page, %object
peal_demo_page:
    .incbin "clients/demo/index.html"
.Lend:
    .byte 0
    .size peal_demo_page, . - peal_demo_page

    .balign 8
    .globl peal_demo_page_size
    .type peal_demo_page_size, %object
    .size peal_demo_page_size, 8
peal_demo_page_size:
    .quad .Lend - peal_demo_page

    .section .note.GNU-stack, "", %progbits
