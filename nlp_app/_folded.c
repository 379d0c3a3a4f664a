/* One text through a folded classifier (nlp_app/folded.py), in one call each for the convolutions and for the n-grams.

   By torch and numpy a short text takes 40 calls and some 150 us, most of it the calls; here it takes about 15. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>

#if defined(__GNUC__) && defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__)
#define VECTORS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define VECTORS
#endif
enum { PAD_ID = 0, QUARTERS = 4, WORDS_AFTER = 1, SHAPES = 3, RELEASE = 64, LARGEST_KERNEL = 64 };
#define NEVER (-1e30f)

typedef struct {
    const int32_t *ids;
    Py_ssize_t length;
    const float *table;
    Py_ssize_t tokens, filters;
} Text;

VECTORS static void add_row(float *sums, const float *row, Py_ssize_t count)
{
    for (Py_ssize_t at = 0; at < count; at++)
        sums[at] += row[at];
}

VECTORS static void add_scaled(float *sums, const float *row, float scale, Py_ssize_t count)
{
    for (Py_ssize_t at = 0; at < count; at++)
        sums[at] += scale * row[at];
}

VECTORS static void keep_larger(float *best, const float *sums, Py_ssize_t count)
{
    for (Py_ssize_t at = 0; at < count; at++)
        best[at] = sums[at] > best[at] ? sums[at] : best[at];
}

/* The maximum over time of one kernel, whose taps begin at tap: best, (F,). */
static void convolve(const Text *text, Py_ssize_t tap, Py_ssize_t size, float *best, float *sums)
{
    for (Py_ssize_t at = 0; at < text->filters; at++)
        best[at] = NEVER;
    for (Py_ssize_t middle = 0; middle < text->length; middle++) {
        for (Py_ssize_t at = 0; at < text->filters; at++)
            sums[at] = 0;
        for (Py_ssize_t step = 0; step < size; step++) {
            Py_ssize_t place = middle - size / 2 + step;
            Py_ssize_t token = place < 0 || place >= text->length ? PAD_ID : text->ids[place];
            add_row(sums, text->table + ((tap + step) * text->tokens + token) * text->filters, text->filters);
        }
        keep_larger(best, sums, text->filters);
    }
}

/* As FoldedClassifier.logits of one text, without its branch: False where an id is none of the vocabulary. */
static int classify(const Text *text, const int64_t *sizes, Py_ssize_t kernels, const float *shift, const float *weight,
                    float *logits, Py_ssize_t classes, float *best)
{
    float *sums = best + text->filters;
    Py_ssize_t tap = 0;
    for (Py_ssize_t at = 0; at < text->length; at++)
        if (text->ids[at] < 0 || text->ids[at] >= text->tokens - 1)  /* the last row of a tap is no token's */
            return 0;
    for (Py_ssize_t kernel = 0; kernel < kernels; tap += sizes[kernel++]) {
        convolve(text, tap, (Py_ssize_t)sizes[kernel], best, sums);
        for (Py_ssize_t at = 0; at < text->filters; at++, shift++, weight += classes)
            if (best[at] + *shift > 0)
                add_scaled(logits, weight, best[at] + *shift, classes);
    }
    return 1;
}

/* As FoldedNgrams of one text, added to its logits; the slots were looked at. */
static void add_branch(const int32_t *slots, const float *counts, Py_ssize_t length, const int32_t *rows, int quarter,
                       const float *idf, const float *weight, float shapes, float *logits, Py_ssize_t classes)
{
    double squares[QUARTERS] = {0};
    float scales[QUARTERS];
    for (Py_ssize_t at = 0; at < length; at++) {
        int32_t row = rows[slots[at]], part = slots[at] >> quarter;
        float value = (counts[at] == 1 ? 1 : 1 + logf(counts[at])) * idf[row];
        squares[part > WORDS_AFTER ? part : WORDS_AFTER] += (double)(value * value);
    }
    for (int part = 0; part < QUARTERS; part++)
        scales[part] = (float)(1 / sqrt(squares[part] > 1e-12 ? squares[part] : 1e-12));
    scales[SHAPES] *= shapes;
    for (Py_ssize_t at = 0; at < length; at++) {
        int32_t row = rows[slots[at]], part = slots[at] >> quarter;
        float value = (counts[at] == 1 ? 1 : 1 + logf(counts[at])) * idf[row];
        add_scaled(logits, weight + row * classes, value * scales[part > WORDS_AFTER ? part : WORDS_AFTER], classes);
    }
}

/* How many of the n-grams have a row of their own, or -1 where a slot is beyond the last one. */
static Py_ssize_t count_known(const int32_t *slots, Py_ssize_t length, const int32_t *rows, Py_ssize_t all)
{
    Py_ssize_t known = 0;
    for (Py_ssize_t at = 0; at < length; at++) {
        if (slots[at] < 0 || slots[at] >= all)
            return -1;
        known += rows[slots[at]] > 0;
    }
    return known;
}

static PyObject *convolutions(PyObject *module, PyObject *args)
{
    Py_buffer ids, logits, table, sizes, shift, weight;
    Py_ssize_t tokens;
    if (!PyArg_ParseTuple(args, "y*w*(y*ny*y*y*)", &ids, &logits, &table, &tokens, &sizes, &shift, &weight))
        return NULL;
    Py_ssize_t kernels = sizes.len / (Py_ssize_t)sizeof(int64_t), filters = shift.len / (Py_ssize_t)sizeof(float) / kernels;
    Text text = {ids.buf, ids.len / (Py_ssize_t)sizeof(int32_t), table.buf, tokens, filters};
    float *room = PyMem_RawMalloc((size_t)filters * 2 * sizeof(float));
    int done = 0;
    if (!room)
        PyErr_NoMemory();
    else {
        PyThreadState *state = text.length > RELEASE ? PyEval_SaveThread() : NULL;
        done = classify(&text, sizes.buf, kernels, shift.buf, weight.buf, logits.buf,
                        logits.len / (Py_ssize_t)sizeof(float), room);
        if (state)
            PyEval_RestoreThread(state);
        if (!done)
            PyErr_SetString(PyExc_ValueError, "an id is none of the vocabulary");
    }
    PyMem_RawFree(room);
    for (Py_buffer **one = (Py_buffer *[]){&ids, &logits, &table, &sizes, &shift, &weight, NULL}; *one; one++)
        PyBuffer_Release(*one);
    return done ? Py_NewRef(Py_None) : NULL;
}

static PyObject *branch(PyObject *module, PyObject *args)
{
    Py_buffer slots, counts, logits, rows, idf, weight;
    float shapes;
    if (!PyArg_ParseTuple(args, "y*y*w*(y*y*y*f)", &slots, &counts, &logits, &rows, &idf, &weight, &shapes))
        return NULL;
    Py_ssize_t length = slots.len / (Py_ssize_t)sizeof(int32_t), all = rows.len / (Py_ssize_t)sizeof(int32_t);
    int quarter = 0;
    while (((Py_ssize_t)QUARTERS << quarter) < all)
        quarter++;
    PyThreadState *state = length > RELEASE * RELEASE ? PyEval_SaveThread() : NULL;
    Py_ssize_t known = count_known(slots.buf, length, rows.buf, all);
    if (known >= 0)
        add_branch(slots.buf, counts.buf, length, rows.buf, quarter, idf.buf, weight.buf, shapes, logits.buf,
                   logits.len / (Py_ssize_t)sizeof(float));
    if (state)
        PyEval_RestoreThread(state);
    if (known < 0)
        PyErr_SetString(PyExc_ValueError, "a slot is beyond the last one");
    for (Py_buffer **one = (Py_buffer *[]){&slots, &counts, &logits, &rows, &idf, &weight, NULL}; *one; one++)
        PyBuffer_Release(*one);
    return known < 0 ? NULL : PyLong_FromSsize_t(known);
}

static PyMethodDef methods[] = {
    {"convolutions", convolutions, METH_VARARGS, "Add to logits what the convolutions of one text give: ids, logits, the module."},
    {"branch", branch, METH_VARARGS, "Add to logits what the n-grams of one text give; how many of them are known."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_folded", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__folded(void)
{
    return PyModule_Create(&definition);
}
