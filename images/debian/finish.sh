#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
# In a guest whose packages are only unpacked: runs their scripts, and leaves a system that is nobody's yet. What it
# says is read by whoever makes the image: lines that begin with "hostel:" are for it.
export PATH=/run/stub:/usr/sbin:/usr/bin LC_ALL=C.UTF-8 HOME=/root
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true DEBIAN_PRIORITY=critical
info=/var/lib/dpkg/info

fail() {
    echo "hostel: failed: $*"
    exit 1
}

# What would take long and be thrown away, or was done already.
mkdir /run/stub
for name in depmod ssh-keygen update-initramfs; do
    printf '#!/bin/sh\nexit 0\n' >/run/stub/$name
done
# The links and the bundle are there; only names by hash are missing.
cat >/run/stub/update-ca-certificates <<'END'
#!/bin/sh
[ -e /run/rehashed ] || openssl rehash /etc/ssl/certs >/dev/null 2>&1
touch /run/rehashed
END
chmod +x /run/stub/*
# Asked by invoke-rc.d, by its path: start nothing here.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod +x /usr/sbin/policy-rc.d

preinst() {
    script=$1
    stem=${script##*/}
    stem=${stem%.preinst}
    export DPKG_MAINTSCRIPT_PACKAGE="${stem%%:*}"
    "$script" install || fail "the preinst script of $stem"
}

# What dpkg tells them (dpkg(1), deb-preinst(5)).
export DPKG_MAINTSCRIPT_NAME=preinst DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1 DPKG_ROOT= DPKG_ADMINDIR=/var/lib/dpkg
DPKG_MAINTSCRIPT_ARCH=$(dpkg --print-architecture)
DPKG_RUNNING_VERSION=$(dpkg-query -W -f '${Version}' dpkg)
export DPKG_MAINTSCRIPT_ARCH DPKG_RUNNING_VERSION
# base-passwd's writes /etc/passwd, which others need.
preinst $info/base-passwd.preinst
for script in $info/*.preinst; do
    [ $script = $info/base-passwd.preinst ] || preinst "$script"
done
# The links that these make are needed before their turn comes.
[ -e /usr/bin/awk ] || ln -s mawk /usr/bin/awk

echo "hostel: packages $(grep -c '^Status: install ok unpacked' /var/lib/dpkg/status)"
dpkg --force-confold --configure -a </dev/null || fail "dpkg --configure -a"
dpkg --audit | grep . && fail "dpkg --audit found the above"

# A system that is nobody's yet: each copy gets these when it first starts.
rm -f /etc/ssh/ssh_host_* /usr/sbin/policy-rc.d /var/lib/systemd/random-seed /var/lib/dbus/machine-id
: >/etc/machine-id
: >/etc/hostname
ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
systemctl enable systemd-networkd.service systemd-resolved.service ssh.service >/dev/null 2>&1
# Nobody can look at these terminals; and nobody waits for a network that may not be there.
systemctl disable getty@tty1.service systemd-networkd-wait-online.service >/dev/null 2>&1
systemctl disable e2scrub_all.timer e2scrub_reap.service >/dev/null 2>&1 # for LVM, which is not here
# For hardware that is not here, and file systems that are mounted when somebody needs them.
systemctl mask modprobe@drm.service modprobe@efi_pstore.service sys-fs-fuse-connections.mount sys-kernel-config.mount \
    systemd-network-generator.service systemd-udev-load-credentials.service >/dev/null 2>&1
# It offers ssh through a kind of socket that there is none of here, and complains.
mkdir -p /etc/systemd/system-generators
ln -s /dev/null /etc/systemd/system-generators/systemd-ssh-generator
# Caches were made by the packages' scripts: systemd needs not make them again at the first start.
touch /etc/.updated /var/.updated
rm -rf /var/log/*.log /var/log/apt /var/cache/debconf/*-old /var/lib/dpkg/*-old /tmp/* /var/tmp/*
sync
fstrim / 2>/dev/null
echo "hostel: finished"
