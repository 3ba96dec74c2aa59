FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1
WORKDIR /app
COPY requirements-run.txt .
RUN pip install --no-cache-dir -r requirements-run.txt
COPY manage.py .
COPY taskproject taskproject
COPY tasks tasks
# The result files are in a volume that the server and the workers share. Nothing else is written.
RUN useradd --create-home --uid 1000 tasks && install --directory --owner=tasks /files
ENV TASK_FILES_ROOT=/files
USER tasks
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
# Running tasks have TASK_DRAIN_SECONDS (30) to end, so use `docker stop -t 50`.
STOPSIGNAL SIGTERM
CMD ["python", "manage.py", "serve", "--host", "0.0.0.0"]
