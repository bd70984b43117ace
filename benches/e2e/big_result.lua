-- One result of 100,000 rows per event.
function thread_init()
  con = sysbench.sql.driver():connect()
end

function event()
  con:query("SELECT id, name, views, ts FROM big")
end

function thread_done()
  con:disconnect()
end
