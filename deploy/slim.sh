# Takes out of /app/venv what no image needs when it runs, and the packages that are named: they are asked for by what
# others of torch and tokenizers do, which this image does not.
set -eu
[ $# = 0 ] || /app/venv/bin/pip uninstall --quiet --yes "$@"
cd /app/venv/lib/python3*/site-packages
rm -rf pip pip-*.dist-info torch/include torch/test torch/share/cmake
# Of torch's programs it asks for one as it is imported.
find torch/bin -type f ! -name torch_shm_manager -delete 2>/dev/null || true
# Python has a library of its own beside the one for C, and tools that make graphs are not for who runs them.
rm -rf onnxruntime/capi/libonnxruntime.so* onnxruntime/transformers onnxruntime/quantization onnxruntime/tools
find . -name '*.a' -delete
find . -type d -name tests -path '*numpy*' -prune -exec rm -rf {} +
rm -f /app/venv/bin/pip*
