/* What a call of the kernels is about: the weights of layers, the rows of a micro-batch, and room. */
#ifndef LAYERWISE_LAYERS_H
#define LAYERWISE_LAYERS_H

#include "products.h"

typedef struct {
    lw_weight queries_keys_values, output;
    const float *query_norm, *key_norm; /* both or neither */
    float *keys, *values;               /* [lane][head][position][size], keys in blocks */
} lw_attention;

typedef struct {
    lw_weight gate, up, down;
} lw_mlp;

typedef struct {
    lw_attention attention;
    lw_mlp mlp;
    const float *attention_norm, *mlp_norm;
} lw_layer;

/* What all layers share. `rotary` is [position][2][size]; `window` 0 means none. */
typedef struct {
    const float *rotary;
    int32_t hidden, heads, key_value_heads, head_size, lane_tokens, window;
    float epsilon;
    int32_t reserved;
} lw_shape;

/* Rows of a micro-batch and room for what they become: see structures.py for sizes. */
typedef struct {
    const int32_t *lanes, *positions;
    float *normed, *heads, *attended, *inner, *scores;
    int32_t num_tokens, reserved;
} lw_rows;

typedef struct {
    const lw_shape *shape;
    const lw_rows *rows;
    const lw_layer *layers;
    const lw_weight *weight;
    const float *x;
    float *out;
    int num_layers, num_rows;
} lw_call;

#endif
