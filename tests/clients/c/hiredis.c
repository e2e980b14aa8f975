/* hiredis. Usage: hiredis PORT KEY SECRET */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>

static void *answered(redisContext *gate, void *reply) {
    if (reply == NULL) {
        fprintf(stderr, "%s\n", gate->errstr);
        exit(1);
    }
    return reply;
}

/* Prints a reply and frees it. */
static void show(redisReply *reply) {
    if (reply->type == REDIS_REPLY_INTEGER)
        printf(" %lld", reply->integer);
    else if (reply->type == REDIS_REPLY_ARRAY)
        for (size_t i = 0; i < reply->elements; i++) {
            redisReply *element = reply->element[i];
            element->type == REDIS_REPLY_INTEGER ? printf(" %lld", element->integer) : printf(" %s", element->str);
        }
    else
        printf(" %s", reply->str);
    freeReplyObject(reply);
}

static redisReply *next_reply(redisContext *gate) {
    void *reply = NULL;
    redisGetReply(gate, &reply);
    return answered(gate, reply);
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    redisContext *gate = redisConnect("127.0.0.1", atoi(argv[1]));
    freeReplyObject(answered(gate, redisCommand(gate, "AUTH %s %s", argv[2], argv[3])));
    printf("version %d.%d.%d\ncheck", HIREDIS_MAJOR, HIREDIS_MINOR, HIREDIS_PATCH);
    show(answered(gate, redisCommand(gate, "GATE.CHECK alice bob")));
    show(answered(gate, redisCommand(gate, "GATE.CHECK mallory bob")));
    printf("\npipeline");
    for (int i = 0; i < 100; i++)
        redisAppendCommand(gate, "GATE.CHECK %s bob", i % 2 ? "mallory" : "alice");
    for (int i = 0; i < 100; i++)
        show(next_reply(gate));
    printf("\ntransaction");
    redisAppendCommand(gate, "MULTI");
    redisAppendCommand(gate, "GATE.CHECK alice bob");
    redisAppendCommand(gate, "GATE.CHECK mallory bob");
    redisAppendCommand(gate, "GATE.VERDICT mallory bob");
    redisAppendCommand(gate, "EXEC");
    for (int i = 0; i < 4; i++)
        freeReplyObject(next_reply(gate));
    show(next_reply(gate));
    printf("\n");
    redisFree(gate);
    return 0;
}
