# The course in a container without a GPU. Your workbook is kept in a volume.
#
#   docker build --tag course_vit .
#   docker run --rm --init --publish 127.0.0.1:8888:8888 \
#     --volume workbook:/course/workbook course_vit
#
# Then open the address with the token that JupyterLab prints, and in it the lesson
# 00_start_here.ipynb. With a GPU, build with
# --build-arg TORCH_INDEX=... (the address of PyTorch's packages for your CUDA version)
# and run with --gpus all.
FROM python:3.12-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN --mount=type=bind,target=/source \
    pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" "/source[course]"

RUN useradd --uid 1000 --home-dir /course --create-home learner \
    && install --directory --owner learner /course/workbook
USER 1000
WORKDIR /course

EXPOSE 8888
HEALTHCHECK --start-period=60s \
    CMD ["python", "-c", "import urllib.request as web; web.urlopen('http://localhost:8888/api')"]
CMD ["course-vit", "lab", "--ip=0.0.0.0", "--no-browser"]
