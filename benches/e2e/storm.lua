-- A connect/disconnect storm: each event connects, logs in, and leaves.
function thread_init()
  drv = sysbench.sql.driver()
end

function event()
  local con = drv:connect()
  con:disconnect()
end
