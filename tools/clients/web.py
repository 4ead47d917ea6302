"""nginx and apache2, in front of fusebox and behind it: what any of them needs to run here."""

from wait import free_port, program

NGINX = """
daemon off;
pid {root}/{name}.pid;
error_log {root}/{name}.log;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {root}/{name}-1;
    proxy_temp_path {root}/{name}-2;
    fastcgi_temp_path {root}/{name}-3;
    uwsgi_temp_path {root}/{name}-4;
    scgi_temp_path {root}/{name}-5;
    {http}
}}
"""

APACHE = """
ServerRoot {root}
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile {root}/{name}.pid
ErrorLog {root}/{name}.log
User {user}
Group #{group}
{modules}
{directives}
"""

MODULE = "LoadModule {0}_module /usr/lib/apache2/modules/mod_{0}.so\n"


def start_nginx(site, name: str, http: str) -> int:
    """Starts nginx with this in its `http`, and returns its port, which is @PORT there."""
    port, config = free_port(), site.path(f"{name}.conf")
    http = http.replace("@PORT", str(port)).replace("@ROOT", str(site.root))
    config.write_text(NGINX.format(root=site.root, name=name, http=http))
    site.serve(name, port, program("nginx"), "-e", site.path(f"{name}.log"), "-c", config)
    return port


def start_apache(site, name: str, modules: list[str], directives: str) -> int:
    """Starts apache2 with these modules and directives, and returns its port."""
    port, config = free_port(), site.path(f"{name}.conf")
    modules = ["mpm_event", "authz_core", *modules]
    config.write_text(APACHE.format(
        root=site.root, name=name, port=port, user=site.apache_user.pw_name,
        group=site.apache_user.pw_gid, modules="".join(map(MODULE.format, modules)),
        directives=directives.replace("@ROOT", str(site.root))))
    site.serve(name, port, program("apache2"), "-d", site.root, "-f", config, "-DFOREGROUND")
    return port
