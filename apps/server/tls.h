/* tls.h - the certificate that the server shows, which can be replaced while it runs. */
#ifndef KITH_SERVER_TLS_H
#define KITH_SERVER_TLS_H

#include <gnutls/abstract.h>

#include <kith/status.h>

/* Read a certificate (PEM, with the chain behind it) and its key (PEM, no password); then tls_choose answers with them.
 * Called again, with new files of the same names: handshakes that begin from then on see the new ones. On failure
 * the old ones stay. One server a process: the library's callback has no argument that could tell two apart.
 * Errors:   KITH_INVALID naming the file that cannot be read, is no PEM, or a key that is not the certificate's. */
kith_status tls_load(const char *certificate, const char *key, kith_error *err);

/* Give everything up, once no connection is left. */
void tls_clear(void);

/* For MHD_OPTION_HTTPS_CERT_CALLBACK. */
int tls_choose(gnutls_session_t session, const gnutls_datum_t *authorities, int n_authorities,
               const gnutls_pk_algorithm_t *algorithms, int n_algorithms, gnutls_pcert_st **chain,
               unsigned *chain_length, gnutls_privkey_t *key);

#endif
