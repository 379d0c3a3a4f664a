/* The n-grams of one text, as nlp_app/ngrams.py counts them by array operations: the same slots, to the bit.

   Those operations take 100 calls for a text by itself; here a short text takes some 5 us in place of 140.
   Where no compiler was found when the project was installed, there is no such module, and ngrams.py does without. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum { SPACE, SYMBOL, ALONE, LETTER, UPPER, DIGIT };  /* as in nlp_app/characters.py */
enum { WORDS = 0, CHARACTERS = 2, SHAPES = 3 };       /* from here on as in nlp_app/ngrams.py */
enum { A_WORD = 6, MANY = 4096, RELEASE = 2048 }; /* n-grams at most; to be sorted by more bits at a time; without Python */
#define STEP 0x9E3779B1u
#define SEED(number) ((number) * 0x85EBCA6Bu)
#define EDGE 1u

typedef struct {
    uint32_t hash, shape;
} Word;

static uint32_t mixed(uint32_t hash)
{
    hash = (hash ^ (hash >> 16)) * 0x7FEB352Du;
    hash = (hash ^ (hash >> 15)) * 0x846CA68Bu;
    return hash ^ (hash >> 16);
}

static uint32_t slot(uint32_t hash, uint32_t part, int bits)
{
    hash *= STEP;
    hash = (hash ^ (hash >> 15)) * 0x2C1B3C6Du;
    return (hash >> (32 - (part == WORDS ? bits - 1 : bits - 2))) | (part << (bits - 2));
}

/* A word of which `counted` are digits, and that many times 65,536 capitals. */
static uint32_t shape(uint8_t first, uint32_t counted, Py_ssize_t length)
{
    uint32_t digits = counted & 0xFFFF, capitals = counted >> 16;
    if (digits)
        return digits == length ? 10 + (uint32_t)(length < 4 ? length : 4) : 20;
    if (capitals == length && length > 1)
        return 21;
    return first == UPPER ? 22 : 23;
}

/* The words of a text and an edge at either end; gives how many. */
static Py_ssize_t split(const uint32_t *codes, const uint8_t *kinds, Py_ssize_t length, Word *words)
{
    Py_ssize_t count = 0, stop;
    words[count++] = (Word){EDGE, EDGE};
    for (Py_ssize_t start = 1; start < length - 1; start = stop) {
        uint8_t first = kinds[start];
        uint32_t hash = 0, power = 1, counted = 0;
        stop = start;
        do {
            hash += codes[stop] * power;
            power *= STEP;
            counted += kinds[stop] == DIGIT ? 1 : kinds[stop] == UPPER ? 1u << 16 : 0;
            stop++;
        } while (first >= LETTER && kinds[stop] >= LETTER);  /* the last character is a space */
        if (first == SPACE)
            continue;
        hash = mixed(hash);
        words[count++] = (Word){hash, first == SYMBOL ? hash : mixed(shape(first, counted, stop - start))};
    }
    words[count++] = (Word){EDGE, EDGE};
    return count;
}

/* Words, pairs, pairs with one between; words and neighbours with a shape: at most A_WORD a word. */
static uint32_t *count_words(const Word *words, Py_ssize_t count, int bits, uint32_t *out)
{
    for (Py_ssize_t at = 0; at < count; at++) {
        uint32_t step = words[at].hash * STEP;
        if (at && at < count - 1) {
            *out++ = slot(words[at].hash + SEED(1), WORDS, bits);
            *out++ = slot(step + words[at].shape + SEED(4), SHAPES, bits);
        }
        if (at < count - 1) {
            *out++ = slot(step + words[at + 1].hash + SEED(2), WORDS, bits);
            *out++ = slot(step + words[at + 1].shape + SEED(5), SHAPES, bits);
            *out++ = slot(words[at + 1].hash * STEP + words[at].shape + SEED(6), SHAPES, bits);
        }
        if (at < count - 2)
            *out++ = slot(step + words[at + 2].hash + SEED(3), WORDS, bits);
    }
    return out;
}

/* Runs of lowest to highest characters that hold no space but at their ends. */
static uint32_t *count_characters(
    const uint32_t *codes, const uint8_t *kinds, Py_ssize_t length, int lowest, int highest, int bits, uint32_t *out)
{
    for (Py_ssize_t at = 0; at < length; at++) {
        uint32_t hash = codes[at];
        for (int order = 2; order <= highest && at + order <= length; order++) {
            if (order > 2 ? kinds[at + order - 2] == SPACE : kinds[at] == SPACE && kinds[at + 1] == SPACE)
                break;
            hash = hash * STEP + codes[at + order - 1];
            if (order >= lowest)
                *out++ = slot(hash + SEED(8 + (uint32_t)order), CHARACTERS, bits);
        }
    }
    return out;
}

/* Ascending, of `bits` bits each: by their lowest bits, then by the next ones; gives where they lie. */
static uint32_t *sorted(uint32_t *keys, uint32_t *other, Py_ssize_t count, int bits)
{
    int step = count < MANY ? 8 : 11;
    uint32_t starts[1 << 11], mask = (1u << step) - 1;
    for (int shift = 0; shift < bits; shift += step) {
        memset(starts, 0, (mask + 1) * sizeof *starts);
        for (Py_ssize_t at = 0; at < count; at++)
            starts[(keys[at] >> shift) & mask]++;
        for (uint32_t digit = 0, sum = 0, here; digit <= mask; digit++, sum += here) {
            here = starts[digit];
            starts[digit] = sum;
        }
        for (Py_ssize_t at = 0; at < count; at++)
            other[starts[(keys[at] >> shift) & mask]++] = keys[at];
        uint32_t *swapped = keys;
        keys = other;
        other = swapped;
    }
    return keys;
}

/* Each key once, and how often it stood there, where keys may be either of both; gives how many. */
static Py_ssize_t runs(const uint32_t *keys, Py_ssize_t count, uint32_t *slots, float *counts)
{
    Py_ssize_t found = 0;
    for (Py_ssize_t start = 0, stop; start < count; start = stop) {
        uint32_t key = keys[start];
        for (stop = start + 1; stop < count && keys[stop] == key; stop++)
            ;
        slots[found] = key;
        counts[found++] = (float)(stop - start);
    }
    return found;
}

static PyObject *count(PyObject *module, PyObject *args)
{
    Py_buffer codes, kinds, slots, counts;
    int bits, lowest, highest;
    if (!PyArg_ParseTuple(args, "y*y*iiiw*w*", &codes, &kinds, &bits, &lowest, &highest, &slots, &counts))
        return NULL;
    Py_ssize_t length = kinds.len, orders = highest ? highest - lowest + 1 : 0, found = -1;
    Py_ssize_t room = (A_WORD * (length + 2) + orders * length) * (Py_ssize_t)sizeof(uint32_t);
    Word *words = PyMem_RawMalloc((size_t)(length + 2) * sizeof(Word));
    if (!words)
        PyErr_NoMemory();
    else if (length < 2 || codes.len != length * (Py_ssize_t)sizeof(uint32_t) || slots.len < room || counts.len < room)
        PyErr_SetString(PyExc_ValueError, "codes, kinds, slots and counts must be as long as those of one text");
    else {
        PyThreadState *state = length > RELEASE ? PyEval_SaveThread() : NULL;
        uint32_t *end = count_words(words, split(codes.buf, kinds.buf, length, words), bits, slots.buf);
        end = count_characters(codes.buf, kinds.buf, length, lowest, highest, bits, end);
        Py_ssize_t all = end - (uint32_t *)slots.buf;
        found = runs(sorted(slots.buf, counts.buf, all, bits), all, slots.buf, counts.buf);
        if (state)
            PyEval_RestoreThread(state);
    }
    PyMem_RawFree(words);
    for (Py_buffer **one = (Py_buffer *[]){&codes, &kinds, &slots, &counts, NULL}; *one; one++)
        PyBuffer_Release(*one);
    return found < 0 ? NULL : PyLong_FromSsize_t(found);
}

static PyMethodDef methods[] = {
    {"count", count, METH_VARARGS, "The n-grams of one text into slots and counts; gives how many there are."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_ngrams", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__ngrams(void)
{
    return PyModule_Create(&definition);
}
