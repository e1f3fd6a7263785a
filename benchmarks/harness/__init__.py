"""What every scenario needs: processes, the disk's and the transport's own speed, figures."""
