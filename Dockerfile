FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY manage.py .
COPY taskproject taskproject
COPY tasks tasks
# The result files are kept in a volume, which web and worker share; nothing else is written.
RUN useradd --create-home --uid 1000 tasks && install --directory --owner=tasks /files
ENV TASK_FILES_ROOT=/files
USER tasks
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
# Running tasks have TASK_DRAIN_SECONDS to end, so give `docker stop` 50 seconds.
STOPSIGNAL SIGTERM
CMD ["python", "manage.py", "serve", "--host", "0.0.0.0"]
