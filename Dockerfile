# The course in a container. Your workbook is kept in a volume.
#
#   docker build --tag course_vit .
#   docker run --rm --init --publish 127.0.0.1:8888:8888 \
#     --volume workbook:/course/workbook course_vit
#
# Then open the address with the token that JupyterLab prints, and in it the lesson
# 00_start_here.ipynb. With a GPU, run with --gpus all. Without one, you save some
# gigabytes if you build with --build-arg PIP_EXTRA_INDEX_URL=... and the address that
# PyTorch's page on installation names for the CPU; pip reads this variable.
FROM python:3.12-slim

ARG PIP_EXTRA_INDEX_URL
RUN --mount=type=bind,target=/source \
    pip install --no-cache-dir "/source[course]"

RUN useradd --uid 1000 --home-dir /course --create-home learner \
    && install --directory --owner learner /course/workbook
USER 1000
WORKDIR /course

EXPOSE 8888
HEALTHCHECK --start-period=60s \
    CMD ["python", "-c", "import urllib.request as web; web.urlopen('http://localhost:8888/api')"]
CMD ["course-vit", "lab", "--ip=0.0.0.0", "--no-browser"]
