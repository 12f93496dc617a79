#include "tls.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "../common/fail.h"

enum { LONGEST_CHAIN = 16 };

/* What one load brought. A handshake may still use an older one, so each stays until tls_clear: some kilobytes a
 * reload. */
typedef struct identity {
    struct identity *older;
    gnutls_pcert_st chain[LONGEST_CHAIN];
    unsigned length;
    gnutls_privkey_t key;
} identity;

static _Atomic(identity *) current;

static void identity_free(identity *id)
{
    for (unsigned i = 0; i < id->length; i++) gnutls_pcert_deinit(&id->chain[i]);
    if (id->key) gnutls_privkey_deinit(id->key);
    free(id);
}

static kith_status load_chain(const char *path, identity *id, kith_error *err)
{
    gnutls_datum_t pem;
    int code = gnutls_load_file(path, &pem);
    if (code != 0) return common_fail(err, KITH_INVALID, "%s: %s", path, "cannot be read");
    unsigned length = LONGEST_CHAIN;
    code = gnutls_pcert_list_import_x509_raw(id->chain, &length, &pem, GNUTLS_X509_FMT_PEM,
                                             GNUTLS_X509_CRT_LIST_FAIL_IF_UNSORTED);
    gnutls_free(pem.data);
    if (code != 0)
        return common_fail(err, KITH_INVALID, "%s: no certificate in PEM: %s", path, gnutls_strerror(code));
    id->length = length;
    return KITH_OK;
}

static kith_status load_key(const char *path, identity *id, kith_error *err)
{
    gnutls_datum_t pem;
    int code = gnutls_load_file(path, &pem);
    if (code != 0) return common_fail(err, KITH_INVALID, "%s: %s", path, "cannot be read");
    code = gnutls_privkey_init(&id->key);
    if (code == 0) code = gnutls_privkey_import_x509_raw(id->key, &pem, GNUTLS_X509_FMT_PEM, NULL, 0);
    gnutls_memset(pem.data, 0, pem.size);
    gnutls_free(pem.data);
    if (code != 0)
        return common_fail(err, KITH_INVALID, "%s: no key in PEM: %s", path, gnutls_strerror(code));
    return KITH_OK;
}

/* Whether they belong together: a public key has one fingerprint. */
static int is_pair(const identity *id)
{
    unsigned char of_key[64], of_certificate[64];
    size_t a = sizeof of_key, b = sizeof of_certificate;
    gnutls_pubkey_t public;
    if (gnutls_pubkey_init(&public) != 0) return 0;
    int same =
        gnutls_pubkey_import_privkey(public, id->key, 0, 0) == 0 &&
        gnutls_pubkey_get_key_id(public, GNUTLS_KEYID_USE_SHA256, of_key, &a) == 0 &&
        gnutls_pubkey_get_key_id(id->chain[0].pubkey, GNUTLS_KEYID_USE_SHA256, of_certificate, &b) == 0 &&
        a == b && gnutls_memcmp(of_key, of_certificate, a) == 0;
    gnutls_pubkey_deinit(public);
    return same;
}

kith_status tls_load(const char *certificate, const char *key, kith_error *err)
{
    identity *id = calloc(1, sizeof *id);
    if (!id) return common_fail(err, KITH_NOMEM, "out of memory");
    kith_status status = load_chain(certificate, id, err);
    if (status == KITH_OK) status = load_key(key, id, err);
    if (status == KITH_OK && !is_pair(id))
        status = common_fail(err, KITH_INVALID, "%s: not the key of %s", key, certificate);
    if (status != KITH_OK) {
        identity_free(id);
        return status;
    }
    id->older = atomic_load(&current);
    atomic_store(&current, id);
    return KITH_OK;
}

void tls_clear(void)
{
    identity *id = atomic_exchange(&current, NULL);
    while (id) {
        identity *older = id->older;
        identity_free(id);
        id = older;
    }
}

int tls_choose(gnutls_session_t session, const gnutls_datum_t *authorities, int n_authorities,
               const gnutls_pk_algorithm_t *algorithms, int n_algorithms, gnutls_pcert_st **chain,
               unsigned *chain_length, gnutls_privkey_t *key)
{
    (void)session, (void)authorities, (void)n_authorities, (void)algorithms, (void)n_algorithms;
    identity *id = atomic_load(&current);
    if (!id) return -1;
    *chain = id->chain;
    *chain_length = id->length;
    *key = id->key;
    return 0;
}
