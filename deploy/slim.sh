# Takes out of /app/venv what no image needs when it runs. Of torch's programs it asks for one as it is imported.
set -eu
cd /app/venv/lib/python3*/site-packages
rm -rf pip pip-*.dist-info torch/include torch/test torch/share/cmake
find torch/bin -type f ! -name torch_shm_manager -delete 2>/dev/null || true
find . -name '*.a' -delete
find . -type d -name tests -path '*numpy*' -prune -exec rm -rf {} +
rm -f /app/venv/bin/pip*
