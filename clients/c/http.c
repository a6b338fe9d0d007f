#include <curl/curl.h>
#include <string.h>

#include "clients/c/answer.h"
#include "clients/c/message.h"
#include "clients/c/peal.h"
#include "clients/c/url.h"

/* Returning less than size makes libcurl give up with CURLE_WRITE_ERROR. */
static size_t answer_on_data(char *at, size_t one, size_t size, void *data)
{
    struct peal_client_answer *answer = data;
    (void)one; /* always 1 */
    if (size > PEAL_CLIENT_BYTES_MAX - answer->body.size) return 0;
    peal_buf_add(&answer->body, at, size);
    return answer->body.failed ? 0 : size;
}

static enum peal_err err_of_curl(CURLcode code, const struct peal_client_answer *answer)
{
    switch (code) {
    case CURLE_OK:
        return PEAL_OK;
    case CURLE_OUT_OF_MEMORY:
        return PEAL_ENOMEM;
    case CURLE_OPERATION_TIMEDOUT:
        return PEAL_ETIMEOUT;
    case CURLE_WRITE_ERROR:
        return answer->body.failed ? PEAL_ENOMEM : PEAL_ETOO_LARGE;
    default:
        return PEAL_EIO;
    }
}

static bool header_add(struct curl_slist **headers, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*headers, line);
    if (longer == NULL) return false;
    *headers = longer;
    return true;
}

static bool headers_make(const struct peal_client_api *api, struct curl_slist **headers)
{
    struct peal_buf line = {0};
    /* Without this libcurl waits a second for `100 Continue` before a large body. */
    bool good =
        header_add(headers, "Content-Type: application/json") && header_add(headers, "Expect:");
    if (good && api->key != NULL && api->key[0] != '\0') {
        peal_buf_add_format(&line, "Authorization: Bearer %s", api->key);
        peal_buf_add_char(&line, '\0');
        good = !line.failed && header_add(headers, line.at);
    }
    if (line.at != NULL) explicit_bzero(line.at, line.size);
    peal_buf_fini(&line);
    return good;
}

/* Redirects are not followed: they would carry the key elsewhere. */
static CURLcode options_set(CURL *curl, const struct peal_client_api *api, const char *url,
                            const struct peal_buf *body, struct curl_slist *headers,
                            struct peal_client_answer *answer)
{
    uint64_t timeout_ms = api->timeout_ms == 0 ? PEAL_CLIENT_TIMEOUT_MS : api->timeout_ms;
    CURLcode rc = curl_easy_setopt(curl, CURLOPT_URL, url);
    if (rc == CURLE_OK) rc = curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    if (rc == CURLE_OK) rc = curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    if (rc == CURLE_OK) rc = curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    if (rc == CURLE_OK) rc = curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    if (rc == CURLE_OK) rc = curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, answer_on_data);
    if (rc == CURLE_OK) rc = curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    if (rc != CURLE_OK || body == NULL) return rc;
    rc = curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body->size);
    if (rc == CURLE_OK) rc = curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body->at);
    return rc;
}

/* GET without a body, POST with one. */
static enum peal_err request(const struct peal_client_api *api, const char *path,
                             const struct peal_buf *body, struct peal_client_answer *answer)
{
    enum peal_err err = PEAL_ENOMEM;
    struct curl_slist *headers = NULL;
    struct peal_buf url = {0};
    long status = 0;
    CURL *curl = curl_easy_init();

    if (curl == NULL || !headers_make(api, &headers)) goto done;
    err = peal_url_join(api->url, path, &url);
    if (err != PEAL_OK) goto done;
    peal_buf_add_char(&url, '\0');
    if (url.failed) {
        err = PEAL_ENOMEM;
        goto done;
    }
    CURLcode rc = options_set(curl, api, url.at, body, headers, answer);
    if (rc == CURLE_OK) rc = curl_easy_perform(curl);
    if (rc == CURLE_OK) rc = curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    err = err_of_curl(rc, answer);
    if (err != PEAL_OK) {
        peal_answer_fail(answer, err, "%s", curl_easy_strerror(rc));
        goto done;
    }
    answer->status = (int)status;

done:
    if (err == PEAL_EBAD_FIELD)
        peal_answer_fail(answer, err, "The API's address must be http[s]://host[:port].");
    if (err == PEAL_ENOMEM) peal_answer_fail(answer, err, "There is not enough memory.");
    peal_buf_fini(&url);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    return err;
}

enum peal_err peal_client_publish(const struct peal_client_api *api,
                                  const struct peal_client_message *messages, size_t count,
                                  struct peal_client_answer *answer)
{
    struct peal_buf body = {0};
    char why[sizeof answer->why] = "There is not enough memory.";
    *answer = (struct peal_client_answer){0};
    if (api->key != NULL && !peal_url_printable(api->key))
        return peal_answer_fail(answer, PEAL_EBAD_FIELD, "The API key is not one printable word.");
    enum peal_err err = peal_message_json(messages, count, &body, why, sizeof why);
    if (err == PEAL_OK)
        err = request(api, "/v1/publish", &body, answer);
    else
        peal_answer_fail(answer, err, "%s", why);
    peal_buf_fini(&body);
    return err;
}

enum peal_err peal_client_inbox(const struct peal_client_api *api, const char *user, uint64_t limit,
                                bool unread_only, struct peal_client_answer *answer)
{
    struct peal_buf path = {0};
    *answer = (struct peal_client_answer){0};
    if (user[0] == '\0')
        return peal_answer_fail(answer, PEAL_EBAD_FIELD, "The user's name is empty.");
    if (api->key != NULL && !peal_url_printable(api->key))
        return peal_answer_fail(answer, PEAL_EBAD_FIELD, "The API key is not one printable word.");
    peal_buf_add_text(&path, "/v1/inbox/");
    peal_url_segment(user, &path);
    if (limit != 0) peal_buf_add_format(&path, "?limit=%ju", (uintmax_t)limit);
    if (unread_only) peal_buf_add_format(&path, "%cunread_only=true", limit == 0 ? '?' : '&');
    peal_buf_add_char(&path, '\0');
    enum peal_err err = path.failed
                            ? peal_answer_fail(answer, PEAL_ENOMEM, "There is not enough memory.")
                            : request(api, path.at, NULL, answer);
    peal_buf_fini(&path);
    return err;
}
