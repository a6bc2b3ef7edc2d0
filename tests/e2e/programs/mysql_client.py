"""mysql_client.py DRIVER PORT PLAN LOG GO: does what a plan says, once the file GO exists.
DRIVER: pymysql, connector, connector-compressed.

A plan has a line per operation, with tabs between: database (a connection of its own), number, what (query,
execute, ping), text with ? for arguments, arguments with commas between. The log has a line for each:
database, number, rows (returned, or changed; -1: none), error number (0: none).
"""
import os
import pathlib
import sys
import threading
import time

driver, port, plan, log, go = sys.argv[1:]
AUTH = {"host": "127.0.0.1", "port": int(port), "user": "joe", "password": "hunter2"}


def connect(database):
    if driver == "pymysql":
        import pymysql
        return pymysql.connect(database=database, autocommit=True, **AUTH), pymysql.Error
    import mysql.connector
    return mysql.connector.connect(database=database, autocommit=True, use_pure=True, ssl_disabled=True,
                                   compress=driver == "connector-compressed", **AUTH), mysql.connector.Error


def run(connection, what, text, args):
    if what == "ping":
        connection.ping(reconnect=False)
        return -1
    prepared = {"prepared": True} if driver != "pymysql" and what == "execute" else {}
    cursor = connection.cursor(**prepared)
    try:
        cursor.execute(text.replace("?", "%s") if args else text, args or None)
        return len(cursor.fetchall()) if cursor.description else cursor.rowcount
    finally:
        cursor.close()


def work(database, operations, out):
    connection, error = connect(database)
    for number, what, text, args in operations:
        code, rows = 0, -1
        try:
            rows = run(connection, what, text, args)
        except error as e:
            code = e.args[0]
        out.append(f"{database}\t{number}\t{rows}\t{code}\n")
    connection.close()


def main():
    by = {}
    for line in open(plan):
        database, number, what, text, args = line.rstrip("\n").split("\t")
        by.setdefault(database, []).append((number, what, text, args.split(",") if args else []))
    __import__("pymysql" if driver == "pymysql" else "mysql.connector")
    pathlib.Path(log + ".ready").touch()
    while not os.path.exists(go):
        time.sleep(0.01)
    out = []
    threads = [threading.Thread(target=work, args=(d, o, out)) for d, o in by.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pathlib.Path(log + ".part").write_text("".join(out))
    os.rename(log + ".part", log)
    time.sleep(60)


main()
