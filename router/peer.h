/* router/peer.h: who sent something through the ROUTER socket, and how to answer. */
#ifndef PEAL_ROUTER_PEER_H
#define PEAL_ROUTER_PEER_H

struct peal_peer {
    unsigned char id_size;
    unsigned char delimiters; /* empty frames between the id and the body; echoed */
    char id[255];
};

#endif
