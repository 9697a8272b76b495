from datetime import timedelta

from sisy_redis import Scheduler

scheduler = Scheduler()


@scheduler.task(every=timedelta(seconds=1), iterations=3, allow_overlap=False, userdata={"who": "world"})
def greet(message):
    run = message["message"]
    who = message["task"].userdata["who"]
    print(f"hello {who}, attempt {run['attempt']}, {run['nominal'].second} s", flush=True)
