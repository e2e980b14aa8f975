/* libgate for Node, by Node-API: `open(dataDirectory, appKey)` returns an object with `maySend`, `verdict`, `status`, `close`.
 *
 * Ids are strings. What libgate refuses is thrown as an Error with its words. The handle is closed by `close`, not by the garbage
 * collector; no call may follow. A call takes less than a microsecond, so all of them run on Node's own thread.
 */
#include <gate.h>
#include <node_api.h>

#include <stdlib.h>

#define ID_ROOM 80 /* more than an id may have, so that a longer one is refused and not cut to fit */

static napi_value thrown(napi_env env, const char *why) {
    napi_throw_error(env, NULL, why);
    return NULL;
}

/* The two ids that a call begins with, and the handle that its function was made with. */
static gate *pair_of(napi_env env, napi_callback_info info, char ids[2][ID_ROOM], size_t sizes[2]) {
    size_t count = 2;
    napi_value arguments[2];
    void *g;
    if (napi_get_cb_info(env, info, &count, arguments, NULL, &g) != napi_ok || count < 2 ||
        napi_get_value_string_utf8(env, arguments[0], ids[0], ID_ROOM, &sizes[0]) != napi_ok ||
        napi_get_value_string_utf8(env, arguments[1], ids[1], ID_ROOM, &sizes[1]) != napi_ok) {
        napi_throw_type_error(env, NULL, "ids are strings");
        return NULL;
    }
    return g;
}

static napi_value may_send(napi_env env, napi_callback_info info) {
    char ids[2][ID_ROOM];
    size_t sizes[2];
    napi_value answer = NULL;
    gate *g = pair_of(env, info, ids, sizes);
    int may = g ? gate_may_send(g, ids[0], sizes[0], ids[1], sizes[1]) : 0;
    if (may < 0)
        return thrown(env, gate_error(g));
    if (g != NULL)
        napi_get_boolean(env, may, &answer);
    return answer;
}

/* [word, ms until it may change or null] */
static napi_value verdict(napi_env env, napi_callback_info info) {
    char ids[2][ID_ROOM];
    size_t sizes[2];
    const char *word;
    int64_t until_ms;
    napi_value answer = NULL, first, second;
    gate *g = pair_of(env, info, ids, sizes);
    if (g == NULL)
        return NULL;
    if (gate_verdict(g, ids[0], sizes[0], ids[1], sizes[1], &word, &until_ms) < 0)
        return thrown(env, gate_error(g));
    napi_create_array_with_length(env, 2, &answer);
    napi_create_string_utf8(env, word, NAPI_AUTO_LENGTH, &first);
    if (until_ms == 0)
        napi_get_null(env, &second);
    else
        napi_create_int64(env, until_ms, &second);
    napi_set_element(env, answer, 0, first);
    napi_set_element(env, answer, 1, second);
    return answer;
}

/* [ready, ms since the facts were known to be complete] */
static napi_value status(napi_env env, napi_callback_info info) {
    void *g;
    int ready;
    int64_t stale_ms;
    napi_value answer, first, second;
    napi_get_cb_info(env, info, NULL, NULL, NULL, &g);
    if (gate_status(g, &ready, &stale_ms) != 0)
        return thrown(env, gate_error(g));
    napi_create_array_with_length(env, 2, &answer);
    napi_get_boolean(env, ready, &first);
    napi_create_int64(env, stale_ms, &second);
    napi_set_element(env, answer, 0, first);
    napi_set_element(env, answer, 1, second);
    return answer;
}

static napi_value close_handle(napi_env env, napi_callback_info info) {
    void *g;
    napi_get_cb_info(env, info, NULL, NULL, NULL, &g);
    gate_close(g);
    return NULL;
}

static napi_value open_handle(napi_env env, napi_callback_info info) {
    static const struct {
        const char *name;
        napi_callback call;
    } CALLS[] = {{"maySend", may_send}, {"verdict", verdict}, {"status", status}, {"close", close_handle}};
    char directory[4096], key[300], error[300];
    size_t count = 2;
    napi_value arguments[2], made, call;
    if (napi_get_cb_info(env, info, &count, arguments, NULL, NULL) != napi_ok || count < 2 ||
        napi_get_value_string_utf8(env, arguments[0], directory, sizeof directory, NULL) != napi_ok ||
        napi_get_value_string_utf8(env, arguments[1], key, sizeof key, NULL) != napi_ok)
        return thrown(env, "open(dataDirectory, appKey) takes strings");
    gate *g = gate_open(directory, key, error, sizeof error);
    if (g == NULL)
        return thrown(env, error);
    napi_create_object(env, &made);
    for (size_t i = 0; i < sizeof CALLS / sizeof *CALLS; i++) {
        napi_create_function(env, CALLS[i].name, NAPI_AUTO_LENGTH, CALLS[i].call, g, &call);
        napi_set_named_property(env, made, CALLS[i].name, call);
    }
    return made;
}

NAPI_MODULE_INIT() {
    napi_value call;
    napi_create_function(env, "open", NAPI_AUTO_LENGTH, open_handle, NULL, &call);
    napi_set_named_property(env, exports, "open", call);
    return exports;
}
