/* router/peer.h: who sent something through the ROUTER socket, and how to answer. */
#ifndef PEAL_ROUTER_PEER_H
#define PEAL_ROUTER_PEER_H

#include <stdbool.h>

struct peal_peer {
    bool publisher; /* its key allows it to publish and nothing else */
    unsigned char id_size;
    unsigned char delimiters; /* empty frames between the id and the body; echoed */
    char id[255];
};

#endif
