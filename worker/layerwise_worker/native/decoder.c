/* Layers of a decoder-only transformer on a CPU with AVX2: hidden states of all tokens of a micro-batch in and out.
 *
 * A call is one task of the team: its members go through the phases of each layer together. What a row yields depends on
 * that row and its lane alone, to the bit.
 */
#include <string.h>

#include "layers.h"
#include "phases.h"
#include "threads.h"

/* Bump with every change of a structure or a signature below: the caller compares. */
#define LW_INTERFACE 1

int lw_interface(void) { return LW_INTERFACE; }

int lw_is_supported(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

/* NULL when there is no memory or no thread; a team lives as long as its process. */
lw_team *lw_make_team(int size) {
    size_t num_bytes = LW_TEAM_BYTES(size);
    lw_team *team = aligned_alloc(64, num_bytes);
    if (team == NULL) return NULL;
    memset(team, 0, num_bytes);
    team->size = size;
    pthread_mutex_init(&team->busy, NULL);
    for (int thread = 1; thread < size; thread++) {
        lw_member *member = malloc(sizeof(lw_member));
        if (member == NULL) return NULL;
        *member = (lw_member){team, thread};
        pthread_t id;
        if (pthread_create(&id, NULL, lw_live, member) != 0) return NULL;
        pthread_detach(id);
    }
    return team;
}

/* Below that, reading the weights once for all members is worth more than what it costs to work together. */
#define FEWEST_ROWS_EACH 4

/* The first row of a member's share when sequences are shared out: tokens of one sequence stay together. */
static int lw_first_row(const lw_rows *rows, int thread, int size) {
    int row = (int)((long)rows->num_tokens * thread / size);
    while (row > 0 && row < rows->num_tokens && rows->lanes[row] == rows->lanes[row - 1]) row++;
    return row;
}

/* With many sequences each member takes some of them through all layers, alone: the others' rows never enter its core's
 * cache, and nobody waits. With few, all share the outputs of every product, so that weights are read once. */
static int lw_is_shared_out(const lw_call *call, int size) {
    const lw_rows *rows = call->rows;
    int even = (rows->num_tokens + size - 1) / size;
    if (size == 1 || even < FEWEST_ROWS_EACH) return 0;
    for (int thread = 0; thread < size; thread++)
        if (lw_first_row(rows, thread + 1, size) - lw_first_row(rows, thread, size) > even + even / 8) return 0;
    return 1;
}

static lw_rows lw_share(const lw_shape *shape, const lw_rows *rows, int inner, int first, int end) {
    size_t heads = (size_t)(shape->heads + 2 * shape->key_value_heads) * shape->head_size;
    lw_rows own = *rows;
    own.lanes += first, own.positions += first;
    own.normed += (size_t)first * shape->hidden, own.heads += first * heads;
    own.attended += (size_t)first * shape->heads * shape->head_size, own.inner += (size_t)first * inner;
    own.num_tokens = end - first;
    return own;
}

static void lw_layers_task(const void *context, lw_member member) {
    const lw_call *call = context;
    int size = member.team->size;
    if (!lw_is_shared_out(call, size)) {
        lw_layer_phases(member, call);
        return;
    }
    int first = lw_first_row(call->rows, member.thread, size), end = lw_first_row(call->rows, member.thread + 1, size);
    lw_rows own = lw_share(call->shape, call->rows, call->layers->mlp.gate.outputs, first, end);
    own.scores += (size_t)member.thread * 3 * call->shape->lane_tokens;
    lw_call share = *call;
    share.rows = &own;
    share.out += (size_t)first * call->shape->hidden;
    _Alignas(64) char room[LW_TEAM_BYTES(1)];
    memset(room, 0, sizeof room);
    lw_team *alone = (lw_team *)room;
    alone->size = 1;
    lw_layer_phases((lw_member){alone, 0}, &share);
}

/* Whole layers one after the other; `x` [tokens][hidden] becomes their output. */
void lw_run_layers(lw_team *team, const lw_shape *shape, const lw_layer *layers, int num_layers, const lw_rows *rows,
                   float *x) {
    lw_call call = {.shape = shape, .rows = rows, .layers = layers, .num_layers = num_layers, .out = x};
    lw_together(team, lw_layers_task, &call);
}

static void lw_attention_task(const void *context, lw_member member) {
    const lw_call *call = context;
    lw_attention_phases(member, call, &call->layers->attention, call->x, call->out, 0);
}

/* Attention of normed rows, without the sum with what came in: where several ranks share a layer. */
void lw_run_attention(lw_team *team, const lw_shape *shape, const lw_layer *layer, const lw_rows *rows, const float *x,
                      float *out) {
    lw_call call = {.shape = shape, .rows = rows, .layers = layer, .x = x, .out = out};
    lw_together(team, lw_attention_task, &call);
}

static void lw_mlp_task(const void *context, lw_member member) {
    const lw_call *call = context;
    lw_mlp_phases(member, call, &call->layers->mlp, call->x, call->out, 0);
}

/* down(silu(gate(x)) * up(x)): an MLP or an expert by itself. */
void lw_run_mlp(lw_team *team, const lw_layer *layer, const lw_rows *rows, const float *x, float *out) {
    lw_call call = {.rows = rows, .layers = layer, .x = x, .out = out};
    lw_together(team, lw_mlp_task, &call);
}

static void lw_product_task(const void *context, lw_member member) {
    const lw_call *call = context;
    lw_product(member, call->weight, call->x, call->num_rows, call->out, 0);
}

/* x @ weight.T + bias for `num_rows` rows. */
void lw_run_product(lw_team *team, const lw_weight *weight, const float *x, int num_rows, float *out) {
    lw_call call = {.weight = weight, .x = x, .num_rows = num_rows, .out = out};
    lw_together(team, lw_product_task, &call);
}

/* Rows `tokens` of the matrix whose panels these are, [num_tokens][inputs]: the table of a tied embedding. */
void lw_read_rows(const lw_weight *weight, const int64_t *tokens, int num_tokens, float *out) {
    for (int t = 0; t < num_tokens; t++, out += weight->inputs) {
        const char *panel = (const char *)weight->panels + (size_t)(tokens[t] / PANEL) * lw_panel_bytes(weight);
        int column = (int)(tokens[t] % PANEL);
        for (int k = 0; k < weight->inputs; k++) {
            __m256 halves[2];
            lw_load(weight->format, panel, k, &halves[0], &halves[1]);
            out[k] = halves[column / 8][column % 8];
        }
    }
}

/* Lay rows [first, first + num_rows) of a matrix [outputs][inputs] out in its panels. */
void lw_pack(const lw_weight *weight, int first, int num_rows, const void *rows, void *panels) {
    size_t width = weight->inputs;
    for (int row = first; row < first + num_rows; row++) {
        int column = row % PANEL;
        char *panel = (char *)panels + (size_t)(row / PANEL) * lw_panel_bytes(weight);
        if (weight->format == LW_FLOAT32) {
            const float *source = (const float *)rows + (row - first) * width;
            for (size_t k = 0; k < width; k++) ((float *)panel)[k * PANEL + column] = source[k];
        } else {
            int place = weight->format == LW_BFLOAT16 ? column % 8 * 2 + column / 8 : column;
            const uint16_t *source = (const uint16_t *)rows + (row - first) * width;
            for (size_t k = 0; k < width; k++) ((uint16_t *)panel)[k * PANEL + place] = source[k];
        }
    }
}
