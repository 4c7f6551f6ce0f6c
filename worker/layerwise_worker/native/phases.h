/* The phases of a layer, which the members of a team go through together: each ends in a barrier. */
#ifndef LAYERWISE_PHASES_H
#define LAYERWISE_PHASES_H

#include <string.h>

#include "attention.h"
#include "layers.h"
#include "threads.h"

/* Where 16 outputs of a tile of rows go. */
typedef struct {
    float *out;
    size_t stride;
    const float *bias;
    int is_sum; /* add to what is there */
} lw_target;

static void lw_put(const lw_target *target, const float *sums, int rows, int first, int columns) {
    for (int r = 0; r < rows; r++, sums += PANEL) {
        float *out = target->out + r * target->stride + first;
        for (int c = 0; c < columns; c++) {
            float number = target->bias ? sums[c] + target->bias[first + c] : sums[c];
            out[c] = target->is_sum ? out[c] + number : number;
        }
    }
}

/* One phase: out = x @ weight.T + bias, or that added to `out`. */
static void lw_product(lw_member member, const lw_weight *weight, const float *x, int rows, float *out, int is_sum) {
    int num_panels = lw_num_panels(weight), num_items = (num_panels + ITEM_PANELS - 1) / ITEM_PANELS;
    /* The item that this member will probably claim next. */
    size_t panel_bytes = lw_panel_bytes(weight), ahead = ITEM_PANELS * panel_bytes;
    lw_work work = {member.team, member.thread, num_items, 0};
    float sums[MOST_ROWS * ITEM_PANELS * PANEL];
    for (int item; (item = lw_claim(&work)) >= 0;) {
        int first = item * ITEM_PANELS;
        int panels = num_panels - first < ITEM_PANELS ? num_panels - first : ITEM_PANELS;
        const char *panel[ITEM_PANELS];
        for (int p = 0; p < panels; p++) panel[p] = (const char *)weight->panels + (first + p) * panel_bytes;
        for (int row = 0, tile; row < rows; row += tile) {
            tile = lw_tile_rows(rows - row);
            lw_multiply(weight->format, tile, panels, x + (size_t)row * weight->inputs, weight->inputs, panel,
                        weight->inputs, lw_fetch_share(weight, ahead, row, tile, rows), sums);
            lw_target target = {out + (size_t)row * weight->outputs, weight->outputs, weight->bias, is_sum};
            for (int p = 0; p < panels; p++) {
                int column = (first + p) * PANEL, left = weight->outputs - column;
                lw_put(&target, sums + p * tile * PANEL, tile, column, left < PANEL ? left : PANEL);
            }
        }
    }
    lw_barrier(member.team);
}

/* One phase: out = silu(x @ gate.T) * (x @ up.T). */
static void lw_gate(lw_member member, const lw_mlp *mlp, const float *x, int rows, float *out) {
    enum { PAIRS = ITEM_PANELS / 2 };
    const lw_weight *gate = &mlp->gate, *up = &mlp->up;
    int num_panels = lw_num_panels(gate), num_items = (num_panels + PAIRS - 1) / PAIRS;
    size_t panel_bytes = lw_panel_bytes(gate), ahead = PAIRS * panel_bytes;
    lw_work work = {member.team, member.thread, num_items, 0};
    float sums[MOST_ROWS * ITEM_PANELS * PANEL];
    for (int item; (item = lw_claim(&work)) >= 0;) {
        int first = item * PAIRS, pairs = num_panels - first < PAIRS ? num_panels - first : PAIRS;
        const char *panel[ITEM_PANELS];
        for (int p = 0; p < pairs; p++) {
            panel[p] = (const char *)gate->panels + (first + p) * panel_bytes;
            panel[pairs + p] = (const char *)up->panels + (first + p) * panel_bytes;
        }
        for (int row = 0, tile; row < rows; row += tile) {
            tile = lw_tile_rows(rows - row);
            lw_multiply(gate->format, tile, 2 * pairs, x + (size_t)row * gate->inputs, gate->inputs, panel,
                        gate->inputs, lw_fetch_share(gate, ahead, row, tile, rows), sums);
            const float *ups = sums + pairs * tile * PANEL;
            lw_target target = {out + (size_t)row * gate->outputs, gate->outputs, NULL, 0};
            for (int i = 0; i < pairs * tile * PANEL; i += 8)
                _mm256_storeu_ps(sums + i, lw_gated(_mm256_loadu_ps(sums + i), _mm256_loadu_ps(ups + i)));
            for (int p = 0; p < pairs; p++) {
                int column = (first + p) * PANEL, left = gate->outputs - column;
                lw_put(&target, sums + p * tile * PANEL, tile, column, left < PANEL ? left : PANEL);
            }
        }
    }
    lw_barrier(member.team);
}

/* One phase: the root-mean-square norm of each row. */
static void lw_norm_rows(lw_member member, const lw_shape *shape, const float *weight, const float *x, int rows,
                         float *out) {
    lw_work work = {member.team, member.thread, rows, 0};
    for (int row; (row = lw_claim(&work)) >= 0;) {
        size_t start = (size_t)row * shape->hidden;
        lw_norm(x + start, weight, shape->epsilon, shape->hidden, out + start);
    }
    lw_barrier(member.team);
}

static inline size_t lw_lane_numbers(const lw_shape *shape) { return (size_t)shape->lane_tokens * shape->head_size; }

/* One phase: normalise and turn queries and keys, and store keys and values in their lanes. */
static void lw_turn(lw_member member, const lw_shape *shape, const lw_attention *attention, const lw_rows *rows) {
    int size = shape->head_size, heads = shape->heads, kinds = shape->key_value_heads;
    float scale = 1.0f / sqrtf((float)size);
    lw_work work = {member.team, member.thread, rows->num_tokens, 0};
    for (int row; (row = lw_claim(&work)) >= 0;) {
        float *head = rows->heads + (size_t)row * (heads + 2 * kinds) * size;
        int position = rows->positions[row];
        const float *angles = shape->rotary + (size_t)position * 2 * size;
        size_t lane = (size_t)rows->lanes[row] * kinds * lw_lane_numbers(shape);
        for (int h = 0; h < heads; h++, head += size) {
            if (attention->query_norm) lw_norm(head, attention->query_norm, shape->epsilon, size, head);
            lw_rotate(head, angles, size);
            for (int i = 0; i < size; i++) head[i] *= scale;
        }
        for (int h = 0; h < kinds; h++, head += size) {
            if (attention->key_norm) lw_norm(head, attention->key_norm, shape->epsilon, size, head);
            lw_rotate(head, angles, size);
            lw_store_key(attention->keys + lane + h * lw_lane_numbers(shape), position, head, size);
        }
        for (int h = 0; h < kinds; h++, head += size)
            memcpy(attention->values + lane + h * lw_lane_numbers(shape) + (size_t)position * size, head,
                   sizeof(float) * size);
    }
    lw_barrier(member.team);
}

/* One phase: attention of every token and key/value head. */
static void lw_look(lw_member member, const lw_shape *shape, const lw_attention *attention,
                    const lw_rows *rows) {
    int size = shape->head_size, kinds = shape->key_value_heads, group = shape->heads / kinds;
    float *scores = rows->scores + (size_t)member.thread * 3 * shape->lane_tokens;
    lw_work work = {member.team, member.thread, rows->num_tokens * kinds, 0};
    for (int item; (item = lw_claim(&work)) >= 0;) {
        /* Late tokens see the most keys: they come first, so that members end together. */
        int row = rows->num_tokens - 1 - item / kinds, kind = item % kinds;
        size_t lane = ((size_t)rows->lanes[row] * kinds + kind) * lw_lane_numbers(shape);
        int end = rows->positions[row] + 1;
        int first = shape->window && end > shape->window ? end - shape->window : 0;
        const float *heads = rows->heads + (size_t)row * (shape->heads + 2 * kinds) * size;
        lw_attend(group, heads + kind * group * size, size, attention->keys + lane, attention->values + lane, first,
                  end, scores, shape->lane_tokens,
                  rows->attended + ((size_t)row * shape->heads + kind * group) * size);
    }
    lw_barrier(member.team);
}

/* Phases of attention without its norm: `x` is normed already. */
static void lw_attention_phases(lw_member member, const lw_call *call, const lw_attention *attention, const float *x,
                                float *out, int is_sum) {
    const lw_rows *rows = call->rows;
    lw_product(member, &attention->queries_keys_values, x, rows->num_tokens, rows->heads, 0);
    lw_turn(member, call->shape, attention, rows);
    lw_look(member, call->shape, attention, rows);
    lw_product(member, &attention->output, rows->attended, rows->num_tokens, out, is_sum);
}

static void lw_mlp_phases(lw_member member, const lw_call *call, const lw_mlp *mlp, const float *x, float *out,
                          int is_sum) {
    lw_gate(member, mlp, x, call->rows->num_tokens, call->rows->inner);
    lw_product(member, &mlp->down, call->rows->inner, call->rows->num_tokens, out, is_sum);
}

static void lw_layer_phases(lw_member member, const lw_call *call) {
    const lw_rows *rows = call->rows;
    for (const lw_layer *layer = call->layers; layer < call->layers + call->num_layers; layer++) {
        lw_norm_rows(member, call->shape, layer->attention_norm, call->out, rows->num_tokens, rows->normed);
        lw_attention_phases(member, call, &layer->attention, rows->normed, call->out, 1);
        lw_norm_rows(member, call->shape, layer->mlp_norm, call->out, rows->num_tokens, rows->normed);
        lw_mlp_phases(member, call, &layer->mlp, rows->normed, call->out, 1);
    }
}

#endif
