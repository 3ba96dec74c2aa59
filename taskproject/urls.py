from django.urls import include, path

urlpatterns = [path("", include("tasks.urls"))]

handler400 = "tasks.rest.problems.bad_request"
handler500 = "tasks.rest.problems.server_error"
