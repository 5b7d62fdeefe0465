import campaign_arguments as c, tempfile, pathlib, warnings
warnings.simplefilter("ignore")
print("without", c.WITHOUT_EXAMPLE, len(c.CALLS))
print("stale", sorted(c.known()-set(c.CALLS)))
for n in c.CALLS:
    with tempfile.TemporaryDirectory() as f:
        import os; os.environ["LSD_NB_CACHE"]=f
        try: r=c.call(n, c.examples(pathlib.Path(f))[n])
        except Exception as e: print(n, type(e).__name__, str(e)[:200])
        else:
            if not c.finite(r): print("NAN", n)
